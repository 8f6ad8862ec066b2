"""What a pass is, the order in which passes run, and the kit to write one: edits, patterns, channels, slices, constants."""

from .order import ordered, settle
from .passes import Pass
from .step import Observer, Step, after_each, observers

__all__ = [
    "Observer",
    "Pass",
    "Step",
    "after_each",
    "observers",
    "ordered",
    "settle",
]
