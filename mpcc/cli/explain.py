"""mpcc optimize --explain SITE: what stands at one site, what it costs, where it holds, and what else could have stood there."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from mpcc.errors import UsageError
from mpcc.show.comparison import cells, describe, lines

from .screen import console
from .search import dropped, ranges, table

if TYPE_CHECKING:
    from mpcc.pipeline import Optimized

NO_SEARCH = (
    "Nothing was searched: without --budget or --max-drop, the preferred approximation of the level stands at every site. "
    "With one of them, this lists the candidates."
)


def explain(made: Optimized, site: str) -> None:
    """Print all that is known of a site. UsageError, with names that look alike, if the plan has none of that name."""
    if site not in made.plan.choices:
        alike = difflib.get_close_matches(site, made.plan.choices, 3, 0.3) or list(made.plan.choices)[:3]
        hint = f"Did you mean {', '.join(alike)}? --sites lists them all." if alike else "This model has no sites."
        raise UsageError(f"the plan has no site {site!r}; the bundle was written", where="--explain", hint=hint)
    out = console()
    (line,) = (one for one in lines(made.plan, made.baseline, made.estimate) if one.name == site)
    costs = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in cells(line).items())
    out.print(f"\n{site}: {describe(made.plan, site)}", highlight=False, style="bold")
    out.print(costs, highlight=False)
    own = [one for one in made.ranges if one.site == site]
    if own:
        out.print(ranges(own))
    if made.chosen is None or site not in made.chosen.candidates:
        out.print(NO_SEARCH, highlight=False)
        return
    entry = made.chosen.candidates[site]
    out.print(table(entry, made.plan.choices[site]))
    dropped(entry, out)
