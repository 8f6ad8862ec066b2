"""Lowering: mpc graph -> online program. Scales, truncations, masks, openings."""

from .compiled import lower
from .settings import Settings

__all__ = [
    "Settings",
    "lower",
]
