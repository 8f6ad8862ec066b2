"""The figures of all plots: one style, fixed names inside an SVG, no display."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
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


def over_tokens(panel: Any, tokens: Sequence[int], label: str, title: str) -> None:
    """Axes of a panel over these numbers of tokens: each is a tick, and nothing between them."""
    panel.set_xticks(tokens, [f"{count:,}" for count in tokens])
    panel.minorticks_off()
    panel.set_xlabel(label)
    panel.set_ylabel(title)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def svg_of(made: Any) -> str:
    """The figure as SVG text to stand in a page, within its block: the same text from run to run."""
    text = io.StringIO()
    made.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def save(made: Any, place: Path, **options: Any) -> None:
    """Save a figure after its block: what an SVG is named inside, and its date, do not change from run to run."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        made.savefig(place, metadata={"Date": None} if place.suffix == ".svg" else None, **options)
