"""Tables and lines that several commands print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from mpcc.show.comparison import cells, lines, names, totals, unpriced
from mpcc.show.units import small

if TYPE_CHECKING:
    from mpcc.cost import Estimate
    from mpcc.pipeline import Optimized

MACHINES = {"reference": "the reference machine", "this machine": "this machine", "a file": "the machine in the file"}


def comparison(made: Optimized) -> Table:
    """What was chosen at each site, and its rounds, bytes and seconds: stock CrypTen -> mpcc."""
    before, after = made.baseline, made.estimate
    title = heading(before, after)
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("site", "online", overflow="fold")
    table.add_column("chosen", overflow="fold")
    for name, (old, new, ratio) in totals(before, after).items():
        table.add_column(name, f"{old} -> {new}\n{ratio}", justify="right", no_wrap=True)
    for line in lines(made.plan, before, after):
        chosen = names(made.plan, line.name)
        table.add_row(line.name, chosen, *(f"{old} -> {new}" for old, new in cells(line).values()))
    table.caption = unpriced(before) or None
    return table


def heading(before: Estimate, after: Estimate) -> str:
    """What is compared: another protocol than mpcc's own is its own baseline, and the plan is what makes the difference."""
    own = after.protocol if after.protocol != before.protocol else f"{after.protocol}, rewritten"
    return f"One private inference on {after.network}: {before.protocol} -> {own}"


def cards(title: str, found: Iterable[tuple[str, Iterable[str]]]) -> Table:
    """A name and some lines for each: readable where a table of many columns is not."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2, 1, 0))
    made.add_column(no_wrap=True, style="bold")
    made.add_column()
    for name, lines_ in found:
        made.add_row(name, "\n".join(lines_))
    return made


def machine(estimate: Estimate) -> str:
    """Whose local work the predicted seconds contain."""
    return f"Predicted seconds are those of {MACHINES[estimate.machine['name']]}: {estimate.machine['source']}."


def errors(made: Optimized) -> str:
    """How far fixed point is from the float model, and on how many inputs that was measured."""
    found = made.errors
    worst, mean, agree = found.get("max_error", 0.0), found.get("mean_error", 0.0), found.get("top1_agreement", 0.0)
    images = int(found.get("images", 0))
    kind = "calibration" if made.calibrated else "synthetic"
    text = (
        f"Fixed-point error against the float model on {images} {kind} input(s): "
        f"largest {small(worst)}, mean {small(mean)}, same top-1 on {agree:.1%}."
    )
    if made.calibrated and not made.basis.synthetic:
        return text
    if made.calibrated:
        return f"{text}\nRanges rest on {made.basis}. More of your own inputs make them safer."
    return (
        f"{text}\nAccuracy unknown: no images were given. Ranges rest on {made.basis}. "
        "Give your own inputs with --calibration."
    )
