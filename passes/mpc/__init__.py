"""Passes on the mpc level."""
