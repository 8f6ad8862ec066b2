"""The figures of all plots: one style, fixed names inside an SVG, no display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """An empty matplotlib figure of this size in inches; to be drawn and saved in the `with` block, whose style it needs."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": "mpcc", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9.0}
    with matplotlib.rc_context(style):
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        yield made
