"""report.html: one page that says what was changed, what it costs, how accurate it is, and who can see what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from mpcc import security
from mpcc.approximate import Plan
from mpcc.bundle.folder import PLAN
from mpcc.bundle.manifest import created_by
from mpcc.calibration.basis import Basis
from mpcc.cost import Estimate
from mpcc.errors import MpccError
from mpcc.ir.answers import NOTE as ANSWERS
from mpcc.ir.answers import Answers
from mpcc.ir.nn import site_operator
from mpcc.program import Program
from mpcc.search.growth import Growth

from . import units
from .bars import bars
from .comparison import Line, by_operator, cells, describe, lines, totals, unpriced
from .growth import lines as growth_lines
from .growth import rows as growth_rows
from .pictures import blocks, timeline

AGREEMENT, IMAGES = "top1_agreement", "images"
ERRORS = {
    "max_error": "largest difference of any output",
    "mean_error": "mean difference",
    AGREEMENT: "share of inputs with the same top-1",
    IMAGES: "calibration inputs",
}


Cells = list[tuple[str, str]]
"""Before and after, of rounds, bytes and seconds."""


@dataclass(frozen=True)
class Comparison:
    """What `optimize` adds to a report: cost before and after, fixed-point errors, the observed ranges of the sites, and what
    compensation did, in words. `former`: the plan of the bundle that is replaced. `accurate`: the plan without a search that a
    search was held against, and its cost. `growth`: the cost at several numbers of tokens, or why it is not known."""

    baseline: Estimate
    estimate: Estimate
    errors: Mapping[str, float]
    basis: Basis
    ranges: Sequence[Any]
    compensation: str = ""
    former: Plan | None = None
    accurate: tuple[Plan, Estimate] | None = None
    growth: Growth | str = ""


@dataclass(frozen=True)
class Elsewhere:
    """What another engine runs of a bundle that was made for its protocol: whom it wants trusted, and one inference's cost."""

    trust: security.Trust
    command: str
    fraction_bits: int
    messages: int
    hops: int
    bytes: int


def report(plan: Plan, program: Program, comparison: Comparison | None = None, elsewhere: Elsewhere | None = None) -> str:
    """The page as HTML text. Without a comparison it has only the plan and the exact cost."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"count": units.count, "size": units.size, "duration": units.duration, "small": units.small}
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    shown = None if comparison is None else _comparison(plan, comparison)
    return template.render(_values(plan, program) | {"comparison": shown, "elsewhere": elsewhere})


def _values(plan: Plan, program: Program) -> dict[str, Any]:
    return {
        "created_by": created_by(),
        "cost": program.cost,
        "failure_probability": program.failure_probability,
        "notes": plan.notes,
        "choices": [(site, describe(plan, site)) for site in plan.choices],
        "blocks": blocks(plan),
        "timeline": timeline(program),
        "answers": _answers(plan, program),
        "security": security,
        "hidden": program.hidden,
        "public": plan.notes.get("public", ()),
        "digest": program.digest,
    }


def groups(found: list[Line], plan: Plan) -> list[tuple[str, str, Cells, list[tuple[str, str, Cells]]]]:
    """(kind, chosen, its cells, the rows of its sites) for each kind of operator; no rows where they say no more."""
    made = []
    for kind in by_operator(found, plan):
        operator = kind.name.rpartition(" (")[0]
        own = [line for line in found if line.name in plan.choices and site_operator(line.name) == operator]
        rows = [(line.name, line.chosen, list(cells(line).values())) for line in own]
        more = [row[1] for row in rows] != [kind.chosen]
        made.append((kind.name, kind.chosen, list(cells(kind).values()), rows if more else []))
    return made


def _answers(plan: Plan, program: Program) -> tuple[str, ...]:
    """What the client computes of the opened outputs."""
    found = plan.notes.get(ANSWERS)
    return () if found is None else Answers.read(found, len(program.outputs)).names


def former_plan(folder: Path) -> Plan | None:
    """The plan of the bundle in a folder; None where there is none that this version can read: then nothing is compared."""
    place = folder / PLAN
    if not place.is_file():
        return None
    try:
        return Plan.from_json(place.read_bytes(), where=str(place))
    except MpccError:
        return None


def changed(before: Plan, after: Plan) -> list[tuple[str, str, str]]:
    """(site, chosen before, chosen now) wherever the two differ; "" where a plan does not have the site."""
    sites = dict.fromkeys([*after.choices, *before.choices])
    both = [(site, *(describe(plan, site) if site in plan.choices else "" for plan in (before, after))) for site in sites]
    return [(site, old, new) for site, old, new in both if before.choices.get(site) != after.choices.get(site)]


def _was(former: Plan | None) -> tuple[float, str] | None:
    """The seconds that a former plan was predicted to take, and on which network."""
    notes: Mapping[str, Any] = {} if former is None else former.notes
    seconds, network = notes.get("seconds"), notes.get("network")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not isinstance(network, str):
        return None
    return float(seconds), network


def _agreement(errors: Mapping[str, float]) -> tuple[float, float, float] | None:
    """The share with the same top-1, and the interval that so few inputs leave."""
    share, images = errors.get(AGREEMENT), int(errors.get(IMAGES, 0))
    return None if share is None or images < 1 else (share, *units.share_of(share, images))


def _comparison(plan: Plan, made: Comparison) -> dict[str, Any]:
    found = lines(plan, made.baseline, made.estimate)
    return {
        "groups": groups(found, plan),
        "after": made.estimate,
        "totals": totals(made.baseline, made.estimate),
        "unpriced": unpriced(made.baseline),
        "picture": bars(by_operator(found, plan)),
        "errors": {ERRORS.get(name, name): value for name, value in made.errors.items()},
        "agreement": _agreement(made.errors),
        "former": made.former is not None,
        "was": _was(made.former),
        "changed": [] if made.former is None else changed(made.former, plan),
        "accurate": None if made.accurate is None else made.accurate[1],
        "given_up": [] if made.accurate is None else changed(made.accurate[0], plan),
        "calibrated": made.basis.calibrated,
        "basis": str(made.basis),
        "ranges": made.ranges,
        "compensation": made.compensation,
        "growth": None if isinstance(made.growth, str) else _growth(made.growth),
        "no_growth": made.growth if isinstance(made.growth, str) else "",
    }


def _growth(made: Growth) -> dict[str, Any]:
    return {"rows": growth_rows(made), "picture": growth_lines(made)}
