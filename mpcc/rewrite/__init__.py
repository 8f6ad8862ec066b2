"""What a pass is, and the kit to write one: edits, patterns, channels, slices, constants."""

from .passes import LEVELS, Level, Pass

__all__ = [
    "LEVELS",
    "Level",
    "Pass",
]
