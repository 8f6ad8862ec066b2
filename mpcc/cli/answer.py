"""What `mpcc optimize` prints: one screen of 24 lines of 80 columns, with a pointer to the rest.

    a row for each kind of operator, the totals, what the accuracy figures rest on, who can see what, and what to do next

`--sites` prints a row for each site in place of the kinds, `--explain SITE` what there was to choose at one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mpcc import security
from mpcc.bundle.folder import PUBLIC_FOLDER, REPORT
from mpcc.cost import PhaseCost
from mpcc.show.comparison import Line, by_operator, lines, unpriced
from mpcc.show.units import brief, brief_seconds, count, size, small, times

from .screen import console, pasted
from .search import gains
from .tables import MACHINES, comparison, errors, heading

if TYPE_CHECKING:
    from rich.console import Console

    from mpcc.pipeline import Optimized

ROWS, COLUMNS = 24, 80
"""The screen that a terminal has when nobody resizes it."""
FEWEST_KINDS = 3
"""Rows of kinds of operators that are shown, however long the rest of the screen is."""
WHO = (
    "Who can see what: server, client and dealer are semi-honest; no two collude.",
    "Weights and input stay secret-shared; only the client learns the output.",
)


def show(
    made: Optimized, place: Path, calibration: object = None, notes: Sequence[str] = (), *, sites: bool = False,
    out: Console | None = None,
) -> None:
    """Print the screen. `calibration` is what the user gave as such; `notes` are said below the accuracy.

    With `sites` the rows are those of every site, however many they are.
    """
    out = out or console()
    below = [*_cost(made), *_accuracy(made), *notes, "", *_seen(made, place), *following(made, place, calibration)]
    under = [line for text in below for line in (_wrapped(text, out) if text[:2] != "  " else [text])]
    found = by_operator(lines(made.plan, made.baseline, made.estimate), made.plan)
    most = len(found)
    while most > FEWEST_KINDS and _height(out, table(made, found, most)) + len(under) > ROWS - 1:  # and a prompt
        most -= 1
    if _height(out, table(made, found, most)) + len(under) > ROWS - 1:
        under = [line for line in under if line]
    out.print(comparison(made) if sites else table(made, found, most))
    for line in under:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def table(made: Optimized, found: Sequence[Line], most: int) -> Table:
    """The first `most` lines, what the others cost together, and the totals."""
    before, after = made.baseline, made.estimate
    title = heading(before, after)
    shown = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), show_footer=True)
    shown.add_column("operator", "online", footer_style="bold")
    shown.add_column("chosen", footer_style="bold", overflow="fold")
    least = ">= " if before.unpriced else ""
    for name, write in WRITTEN.items():
        old, new = float(getattr(before, name)), float(getattr(after, name))
        total = f"{least}{write(old)} -> {write(new)}\n{least}{times(old, new)}"
        shown.add_column(name, total, justify="right", no_wrap=True, footer_style="bold")
    rest = list(found[most:])
    for line in [*found[:most], *([_joined(rest)] if rest else [])]:
        shown.add_row(line.name.replace("(", "").replace(")", ""), line.chosen, *cells(line))
    return shown


def cells(line: Line) -> list[str]:
    """rounds, bytes and seconds of a line, before and after, with three digits each."""
    return [
        f"{write(float(getattr(line.before, name))) if line.priced else '?'} -> {write(float(getattr(line.after, name)))}"
        for name, write in WRITTEN.items()
    ]


WRITTEN = {"rounds": count, "bytes": brief, "seconds": brief_seconds}


def _joined(rest: list[Line]) -> Line:
    def total(costs: list[PhaseCost]) -> PhaseCost:
        return PhaseCost(sum(c.rounds for c in costs), sum(c.bytes for c in costs), sum(c.seconds for c in costs))

    whole = Line(f"{len(rest)} others", "(--sites)", total([r.before for r in rest]), total([r.after for r in rest]))
    return replace(whole, priced=all(row.priced for row in rest))


def _cost(made: Optimized) -> list[str]:
    setup, offline = made.estimate.setup, made.estimate.offline
    once = f"Once per model: {count(setup.rounds)} round(s), {size(setup.bytes)}"
    text = f"{once}; before each input: {size(offline.bytes)}."
    lacking = unpriced(made.baseline)
    whose = f"Seconds are predicted, for {MACHINES[made.estimate.machine['name']]}."
    return [text, whose, *([lacking] if lacking else [])]


def _accuracy(made: Optimized) -> list[str]:
    from .optimize import UNCALIBRATED

    found = [*_fixed_point(made), *gains(made)]
    found += [] if made.compensation is None else [str(made.compensation)]
    if not made.calibrated and made.plan.notes.get("level") == "structural":
        found.append(UNCALIBRATED)
    outside = sorted({one.site for one in made.ranges if one.values > 0})
    if outside:
        listed = f"{outside[0]}{' and others' if len(outside) > 1 else ''}"
        found.append(f"WARNING: calibration leaves the valid range at {listed}; see --sites.")
    return found


def _fixed_point(made: Optimized) -> list[str]:
    """How far fixed point is from float, and on what; in one line where there is nothing to warn of."""
    first, *more = errors(made).splitlines()
    if more:
        return [first, *more]
    figures = made.errors
    same, worst = figures.get("top1_agreement", 0.0), small(figures.get("max_error", 0.0))
    return [f"Fixed point and float on {int(figures.get('images', 0))} inputs: same top-1 on {same:.1%}, at most {worst} apart."]


def _seen(made: Optimized, place: Path) -> list[str]:
    public = f" Public: {', '.join(made.public)}." if made.public else ""
    own = f"The client computes the last {', '.join(made.answers)} of its opened logits (--hide-logits)."
    hides = made.shortfall and f"WARNING: {made.shortfall}"
    noise = [hides or security.hides(made.hidden)] if made.circuit is None else []  # another engine adds none
    return [*WHO, *([own] if made.answers else []), *noise,
            f"The rest of the statement, and of this page: {place / REPORT}{public}"]


def following(made: Optimized, place: Path, calibration: object = None) -> list[str]:
    """Where the bundle is, and two commands that work as they stand."""
    given = None if calibration is None else str(calibration)
    array = given is not None and Path(given).suffix in (".npy", ".npz") and Path(given).is_file()
    example: tuple[Any, ...] = ("--input", given, "--first", "1") if array else ("--example",)
    check: tuple[Any, ...] = () if given is None else ("--calibration", given)
    return [
        f"Written: {place}; of it, client and dealer get {place / PUBLIC_FOLDER}. Next:",
        f"  {pasted('mpcc', 'run', place, *example)}",
        f"  {pasted('mpcc', 'verify', place, *check)}",
    ]


def _wrapped(text: str, out: Console) -> list[str]:
    return textwrap.wrap(text, out.width, subsequent_indent="  ", break_on_hyphens=False) or [""]


def _height(out: Console, made: Table) -> int:
    return len(out.render_lines(made, pad=False))
