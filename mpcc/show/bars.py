"""The bar chart of a report: bytes and rounds by operator, before and after, as deterministic SVG text."""

from __future__ import annotations

from collections.abc import Sequence

from .comparison import Line
from .figure import figure, svg_of

BEFORE, AFTER = "#b8b8b8", "#2f6f9f"
LEGEND = ("stock CrypTen", "this plan")


def bars(found: Sequence[Line], legend: tuple[str, str] = LEGEND) -> str:
    """Two panels of horizontal bars (MB and rounds), with one pair of bars per line of the comparison."""
    with figure(9, 0.9 + 0.42 * len(found)) as made:
        panels = made.subplots(1, 2, sharey=True)
        names = [line.name for line in found]
        places = list(range(len(names)))
        for panel, title, before, after in (
            (panels[0], "MB", [one.before.bytes / 1e6 for one in found], [one.after.bytes / 1e6 for one in found]),
            (panels[1], "rounds", [one.before.rounds for one in found], [one.after.rounds for one in found]),
        ):
            panel.barh([p - 0.2 for p in places], before, 0.38, color=BEFORE, label=legend[0])
            panel.barh([p + 0.2 for p in places], after, 0.38, color=AFTER, label=legend[1])
            panel.set_xlabel(title)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].set_yticks(places, names)
        panels[0].invert_yaxis()
        panels[1].legend(frameon=False, loc="lower right")
        return svg_of(made)
