"""Approximations of GELU."""
