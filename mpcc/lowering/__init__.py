"""Lowering: mpc graph -> online program. Scales, truncations, masks, openings."""

from .lower import Settings, lower

__all__ = [
    "Settings",
    "lower",
]
