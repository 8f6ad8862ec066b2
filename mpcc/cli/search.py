"""What a search found: the quality loss it predicts; with --verbose, every site's candidates and the valid ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from mpcc.approximate import Choice, Split
from mpcc.ir.nn import site_operator
from mpcc.show.units import brief_seconds, count, size, small

from .screen import console

if TYPE_CHECKING:
    from rich.console import Console

    from mpcc.calibration import RangeViolation
    from mpcc.pipeline import Optimized
    from mpcc.search import Candidate, Candidates
    from mpcc.search.task import Chosen


LARGE = 0.1
"""Share of changed top classes from which a plan is hardly what anybody wants without training."""
SHOWN = 3


def gains(made: Optimized) -> list[str]:
    """Lines that say what the plan costs in quality, and whether there was anything to choose."""
    if not made.plan.choices:
        return ["Nothing to choose: the model has no softmax, activation or norm, so there is only one plan."]
    chosen = made.chosen
    if chosen is None:
        return []
    lines = [loss(chosen), *_doubts(chosen)]
    if all(len(entry.kept) == 1 for entry in chosen.candidates.values()):
        lines.append("Every site has a single Pareto-optimal candidate, so there was nothing to choose.")
    return lines


def _doubts(chosen: Chosen) -> list[str]:
    """What speaks against the answer of a search, or limits it."""
    lines = []
    if chosen.metric.labels is not None and chosen.point.drop > LARGE:
        lines.append(
            f"Warning: this plan costs {100 * chosen.point.drop:.0f} points of accuracy. {_careful(chosen)}"
            "`mpcc tune` trains the model for a plan."
        )
    elif chosen.metric.drop_name.startswith("images") and chosen.point.drop > LARGE:
        lines.append(
            f"Warning: this plan changes the top class of {chosen.point.drop:.0%} of the inputs. {_careful(chosen)}"
            "`mpcc tune` trains the model for a plan."
        )
    if chosen.barred:
        names = "; ".join(map(str, chosen.barred[:SHOWN]))
        more = f" and {len(chosen.barred) - SHOWN} more (--json)" if len(chosen.barred) > SHOWN else ""
        lines.append(f"Not chosen from: {names}{more}.")
    if chosen.stopped:
        lines.append("The search was ended early: with more time, or on a faster machine, the plan may be another.")
    return lines


def _careful(chosen: Chosen) -> str:
    """What next to no harm would cost."""
    own, other = chosen.point, chosen.careful
    if other is None:
        return "`--max-drop 1%` finds the fastest plan that keeps it; "
    seconds = f"{brief_seconds(float(other.estimate.seconds))} instead of {brief_seconds(float(own.estimate.seconds))}"
    return f"A plan that costs {max(other.drop, 0.0):.1%} takes {seconds}; `--max-drop 1%` looks for the fastest such; "


def loss(chosen: Chosen) -> str:
    """What the plan does to the outputs, and on how many inputs that was measured."""
    point = chosen.point
    share = drop(chosen)
    how = "In float, compensated" if chosen.compensated else "In float"
    text = f"{how}, on {chosen.judged} inputs: {chosen.metric.name} {small(point.loss)}; {chosen.metric.drop_name}: {share}"
    if chosen.metric.drop_name.startswith("images"):
        error = math.sqrt(max(point.drop * (1 - point.drop), 0.0) / chosen.judged)
        text += f" \u00b1 {error:.1%}"
    return f"{text}.{_accuracy(chosen)}"


def drop(chosen: Chosen) -> str:
    """The drop as people write it: a share of images or of accuracy in percent, the value of another metric as a number."""
    shares = chosen.metric.labels is not None or chosen.metric.drop_name.startswith("images")
    return f"{chosen.point.drop:.1%}" if shares else small(chosen.point.drop)


def _accuracy(chosen: Chosen) -> str:
    """Top-1 on labelled inputs, where there are any."""
    if chosen.accuracy is None:
        return ""
    was, now = (f"{share:.1%} \u00b1 {math.sqrt(share * (1 - share) / chosen.judged):.1%}" for share in chosen.accuracy)
    return f" Top-1 of the labels: {now}; of the model as it was: {was}."


def candidates(made: Optimized) -> None:
    """Print the candidates of each site with the chosen one marked, and why the others were discarded."""
    chosen = made.chosen
    if chosen is None:
        return
    out = console()
    number = sum(len(entry.kept) for entry in chosen.candidates.values())
    text = f"Chosen from {number} candidates at {len(chosen.candidates)} site(s); {chosen.tried} program(s) priced."
    out.print(text, highlight=False)
    twins: dict[object, list[str]] = {}
    for site, entry in chosen.candidates.items():
        twins.setdefault(_kind(entry, made.plan.choices[site]), []).append(site)
    for sites in twins.values():
        entry = chosen.candidates[sites[0]]
        out.print(table(entry, made.plan.choices[sites[0]]))
        dropped(entry, out)
        if len(sites) > 1:
            out.print(f"  the same candidates and choice at {', '.join(sites[1:])}", highlight=False, style="dim")


def dropped(entry: Candidates, out: Console) -> None:
    """Print what was discarded at a site, and why."""
    for choice, why in entry.dropped:
        out.print(f"  discarded {choice.approximation}{_words(choice)}: {why}", highlight=False, style="dim")


def _kind(entry: Candidates, chosen: Choice | Split) -> object:
    """What two sites share whose tables differ in their numbers alone: one table is enough for both."""
    kept = tuple((one.choice.approximation, float(one.work.rounds)) for one in entry.kept)
    return site_operator(entry.site), kept, tuple(_ticks(entry, chosen).items()), tuple(c.approximation for c, _ in entry.dropped)


def ranges(found: Sequence[RangeViolation]) -> Table:
    """The valid range of each site's approximation, the range observed in calibration, and the share of values outside."""
    table = Table(title="Valid ranges of the plan, and ranges observed in calibration", title_justify="left")
    for name in ("site", "approximation", "quantity", "valid range", "observed", "outside"):
        table.add_column(name, justify="right" if name == "outside" else "left", overflow="fold")
    for one in found:
        table.add_row(one.site, one.approximation, one.quantity, one.holds, one.seen, f"{one.values:.2%}")
    return table


def table(entry: Candidates, chosen: Choice | Split) -> Table:
    shown = Table(title=entry.site, title_justify="left")
    for name in ("candidate", "rounds", "bytes", "error at the site", "quality loss", "compared with the chosen one"):
        shown.add_column(name, justify="left" if name == "candidate" else "right", overflow="fold")
    ticks = _ticks(entry, chosen)
    ours = next((entry.kept[place] for place in ticks), None) if isinstance(chosen, Choice) else None
    for place, candidate in enumerate(entry.kept):
        shown.add_row(
            f"{ticks.get(place, ' ')} {candidate.choice.approximation}{_words(candidate.choice)}",
            count(float(candidate.work.rounds)), size(float(candidate.work.bytes)),
            small(candidate.error),
            small(candidate.loss), _instead(candidate, ours),
        )  # fmt: skip
    return shown


def _ticks(entry: Candidates, chosen: Choice | Split) -> dict[int, str]:
    """Index of a candidate -> a tick if it was chosen, followed by its heads or tokens if the site is split."""
    parts = chosen.parts if isinstance(chosen, Split) else [None]
    found: dict[int, str] = {}
    for part in parts:
        own = part.choice if part else chosen
        place = next((i for i, m in enumerate(entry.kept) if isinstance(own, Choice) and _same(m.choice, own)), None)
        if place is not None:
            found[place] = " ".join([found.get(place, "\u2713"), *([part.label] if part else [])])
    return found


def _same(one: Choice, chosen: Choice) -> bool:
    """Whether a candidate was chosen, perhaps refitted to the values that the site sees under the plan."""
    from mpcc.search.prices import structure

    alike = structure(one.options) == structure(chosen.options)
    return one == chosen or (alike and one.approximation == chosen.approximation)


def _instead(candidate: Candidate, ours: Candidate | None) -> str:
    if ours is None or candidate is ours:
        return ""
    rounds, amount = float(candidate.work.rounds - ours.work.rounds), float(candidate.work.bytes - ours.work.bytes)
    return f"{rounds:+,.0f} rounds, {'+' if amount >= 0 else '-'}{size(abs(amount))}, loss {candidate.loss - ours.loss:+.1e}"


def _words(choice: Choice) -> str:
    return "".join(f" {key}={value}" for key, value in choice.options.items() if isinstance(value, int | str))
