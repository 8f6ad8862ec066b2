"""mpc graph -> online program: scales, truncations, masks, openings and rounds."""

from .lower import Settings, lower
from .program import Program

__all__ = ["Program", "Settings", "lower"]
