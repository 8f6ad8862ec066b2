"""The online program: what the parties run, and what is read off it (rounds, layout, traffic, mask check)."""

from .program import Program

__all__ = [
    "Program",
]
