"""The figures of all plots: one style, fixed names inside an SVG, no display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STYLE: Any = {"svg.hashsalt": "mpcc", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9.0}


@contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """An empty matplotlib figure of this size in inches, to be drawn in the `with` block, whose style it needs."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        yield made


def save(made: Any, place: Path, **options: Any) -> None:
    """Save a figure after its block: what an SVG is named inside, and its date, do not change from run to run."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        made.savefig(place, metadata={"Date": None} if place.suffix == ".svg" else None, **options)
