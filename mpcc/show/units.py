"""Numbers as people read them: 845.30 kB, 1.20 s, 1,317."""

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
    """Seconds as "1.20 s", or as "350.0 ms" below one second."""
    return f"{value:,.2f} s" if abs(value) >= 1 else f"{value * 1e3:,.1f} ms"


def times(before: float, after: float) -> str:
    """before / after as "10.4x", rounded down so that it never claims too much."""
    return f"{math.floor(10 * before / after) / 10:,.1f}x" if after else "-"


def small(value: float) -> str:
    """Two significant digits: 0.0034, 2.1e-06."""
    return f"{value:.2g}"
