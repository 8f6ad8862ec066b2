"""Recipes: which approximation at which operator, and how it is chosen."""
