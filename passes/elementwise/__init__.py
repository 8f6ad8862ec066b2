"""Approximations and exact expansions of elementwise functions and maxima."""
