"""What a pass is, the order in which passes run, and the kit to write one: edits, patterns, channels, slices, constants."""

from .order import ordered, settle
from .passes import LEVELS, Level, Pass

__all__ = [
    "LEVELS",
    "Level",
    "Pass",
    "ordered",
    "settle",
]
