"""What a pass is, the order in which passes run, and the kit to write one: edits, patterns, channels, slices, constants."""

from .order import ordered, settle
from .passes import LEVELS, Level, Pass, Rewritten
from .step import Observer, Step, after_each, observers

__all__ = [
    "LEVELS",
    "Level",
    "Observer",
    "Pass",
    "Rewritten",
    "Step",
    "after_each",
    "observers",
    "ordered",
    "settle",
]
