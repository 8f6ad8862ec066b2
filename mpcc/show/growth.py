"""Cost against tokens, of a report: a row for each size, and a line for bytes and one for seconds, before and after."""

from __future__ import annotations

from dataclasses import dataclass

from mpcc.search.growth import Growth

from .bars import AFTER, BEFORE, LEGEND
from .figure import figure, over_tokens, svg_of
from .units import count, duration, size


@dataclass(frozen=True)
class Row:
    """The costs at a number of tokens as text, (before, after). `own`: the model's own number."""

    tokens: str
    own: bool
    rounds: tuple[str, str]
    bytes: tuple[str, str]
    seconds: tuple[str, str]


def rows(found: Growth) -> list[Row]:
    """A row for each size, in order."""
    return [
        Row(
            count(one.tokens), one.tokens == found.here,
            (count(one.before.rounds), count(one.after.rounds)),
            (size(one.before.bytes), size(one.after.bytes)),
            (duration(one.before.seconds), duration(one.after.seconds)),
        )
        for one in found.sizes
    ]  # fmt: skip


def lines(found: Growth) -> str:
    """Two panels, MB and seconds over tokens, both axes logarithmic, as deterministic SVG text."""
    tokens = [one.tokens for one in found.sizes]
    with figure(9, 2.6) as made:
        panels = made.subplots(1, 2)
        for panel, title, before, after in (
            (panels[0], "MB", [one.before.bytes / 1e6 for one in found.sizes], [one.after.bytes / 1e6 for one in found.sizes]),
            (panels[1], "seconds", [one.before.seconds for one in found.sizes], [one.after.seconds for one in found.sizes]),
        ):
            for values, colour, name in ((before, BEFORE, LEGEND[0]), (after, AFTER, LEGEND[1])):
                panel.loglog(tokens, values, "o-", color=colour, markersize=4, label=name)
            over_tokens(panel, tokens, "tokens", title)
        panels[0].legend(frameon=False)
        return svg_of(made)
