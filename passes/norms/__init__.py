"""Approximations of normalisation layers."""
