"""report.html: one page that says what was changed, what it costs, how accurate it is, and who can see what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from mpcc import security
from mpcc.approximate import Plan
from mpcc.bundle.manifest import created_by
from mpcc.calibration.basis import Basis
from mpcc.cost import Estimate
from mpcc.ir.answers import NOTE as ANSWERS
from mpcc.ir.answers import Answers
from mpcc.ir.nn import site_operator
from mpcc.program import Program

from . import units
from .bars import bars
from .comparison import Line, by_operator, cells, describe, lines, totals, unpriced
from .pictures import blocks, timeline

ERRORS = {
    "max_error": "largest difference of any output",
    "mean_error": "mean difference",
    "top1_agreement": "share of inputs with the same top-1",
    "images": "calibration inputs",
}


Cells = list[tuple[str, str]]
"""Before and after, of rounds, bytes and seconds."""


@dataclass(frozen=True)
class Comparison:
    """What `optimize` adds to a report: cost before and after, fixed-point errors, the observed ranges of the sites, and what
    compensation did, in words."""

    baseline: Estimate
    estimate: Estimate
    errors: Mapping[str, float]
    basis: Basis
    ranges: Sequence[Any]
    compensation: str = ""


def report(plan: Plan, program: Program, comparison: Comparison | None = None) -> str:
    """The page as HTML text. Without a comparison it has only the plan and the exact cost."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"count": units.count, "size": units.size, "duration": units.duration, "small": units.small}
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    shown = None if comparison is None else _comparison(plan, comparison)
    return template.render(_values(plan, program) | {"comparison": shown})


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


def _comparison(plan: Plan, made: Comparison) -> dict[str, Any]:
    found = lines(plan, made.baseline, made.estimate)
    return {
        "groups": groups(found, plan),
        "after": made.estimate,
        "totals": totals(made.baseline, made.estimate),
        "unpriced": unpriced(made.baseline),
        "picture": bars(by_operator(found, plan)),
        "errors": {ERRORS.get(name, name): value for name, value in made.errors.items()},
        "calibrated": made.basis.calibrated,
        "basis": str(made.basis),
        "ranges": made.ranges,
        "compensation": made.compensation,
    }
