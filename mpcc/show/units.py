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


def brief(value: float) -> str:
    """Bytes with three digits: 441 MB, 8.30 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= 0.9995 * factor:
            return f"{_three(value / factor)} {unit}"
    return f"{value:,.0f} B"


def brief_seconds(value: float) -> str:
    """Seconds with three digits: 68.4 s, 207 ms; 0 s for nothing."""
    if value == 0:
        return "0 s"
    return f"{_three(value)} s" if abs(value) >= 0.9995 else f"{_three(value * 1e3)} ms"


def _three(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:,.{digits}f}"


def duration(value: float) -> str:
    """Seconds as "1.20 s", or as "350.0 ms" below one second."""
    return f"{value:,.2f} s" if abs(value) >= 1 else f"{value * 1e3:,.1f} ms"


def times(before: float, after: float) -> str:
    """before / after as "10.4x", rounded down so that it never claims too much."""
    return f"{math.floor(10 * before / after) / 10:,.1f}x" if after else "-"


def share_of(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in `count` trials (Wilson, JASA 22, 1927): of 16 out of 16, 0.81 to 1."""
    z = 1.959964
    middle, width = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max((middle - width) / scale, 0.0), min((middle + width) / scale, 1.0)


def small(value: float) -> str:
    """Two significant digits: 0.0034, 2.1e-06."""
    return f"{value:.2g}"
