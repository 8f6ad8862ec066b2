"""Passes on the nn level."""
