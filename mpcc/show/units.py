"""Numbers for people: 845.3 kB, 1.20 s, 1,317."""

from __future__ import annotations

import math


def count(value: float) -> str:
    """1,317"""
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes in decimal units: 440.8 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:,.2f} {unit}"
    return f"{value:,.0f} B"


def duration(value: float) -> str:
    """Seconds from one second on, else milliseconds."""
    return f"{value:,.2f} s" if abs(value) >= 1 else f"{value * 1e3:,.1f} ms"


def times(before: float, after: float) -> str:
    """How often `after` goes into `before`: 10.4x. Cut, not rounded: never more than is true."""
    return f"{math.floor(10 * before / after) / 10:,.1f}x" if after else "-"


def small(value: float) -> str:
    """An error: 0.0034, 2.1e-06."""
    return f"{value:.2g}"
