"""report.html: one page that says what was changed, what it costs, how exact it is, who sees what."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from mpcc import security

from . import units
from .comparison import by_operator, describe, lines
from .manifest import created_by
from .pictures import bars

if TYPE_CHECKING:
    from mpcc.executable import Executable
    from mpcc.pipeline import Optimized

ERRORS = {
    "max_error": "largest difference of an output",
    "mean_error": "mean difference",
    "top1_agreement": "part with the same top-1",
    "images": "calibration inputs",
}


def report(executable: Executable, optimized: Optimized | None) -> str:
    """The page as text. Without `optimized` there is no comparison: the plan and the exact cost only."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"count": units.count, "size": units.size, "duration": units.duration, "small": units.small}
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(_values(executable) | (_comparison(optimized) if optimized else {"comparison": None}))


def _values(executable: Executable) -> dict[str, Any]:
    plan = executable.plan
    return {
        "created_by": created_by(),
        "cost": executable.program.cost,
        "failure_probability": executable.program.failure_probability,
        "notes": plan.notes,
        "choices": [(site, describe(plan, site)) for site in plan.choices],
        "security": security,
        "version": executable.version,
        "digest": executable.program.digest,
    }


def _comparison(optimized: Optimized) -> dict[str, Any]:
    found = lines(optimized.plan, optimized.baseline, optimized.estimate)
    return {
        "comparison": {
            "lines": found,
            "before": optimized.baseline,
            "after": optimized.estimate,
            "ratio": {
                name: units.times(float(getattr(optimized.baseline, name)), float(getattr(optimized.estimate, name)))
                for name in ("rounds", "bytes", "seconds")
            },
            "picture": bars(by_operator(found, optimized.plan)),
            "errors": {ERRORS.get(name, name): value for name, value in optimized.errors.items()},
            "calibrated": optimized.calibrated,
            "ranges": optimized.ranges,
        }
    }
