"""Which inputs leave the range on which a plan's approximations hold: seen in a float run, site by site.

    for found in outside(graph, plan, approximations, images):
        print(found)           blocks.2.attn.softmax (softmax_mean_shift): denominator reaches 131, the plan holds in [1, 90] ...

Values are secret when parties run, so nobody can look then: an input outside the range gives a wrong answer that looks
like any other. It can be looked at here, on inputs that one has: the share of those outside is what to expect of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Domain, Plan, Split
from mpcc.approximate.expand import site_function
from mpcc.errors import PlanError
from mpcc.ir.nn import is_site, operator_of, site_operator, sites

from .quantities import quantities
from .ranges import Inputs, observe

ROUNDING = 1e-3
"""How far outside is none: of the interval's width, for numbers that were rounded when they were written down."""


@dataclass(frozen=True)
class RangeViolation:
    """A quantity of a site against the interval in which the chosen approximation holds; shares of values and of calls."""

    site: str
    approximation: str
    quantity: str
    low: float
    high: float
    seen_low: float
    seen_high: float
    values: float
    calls: float

    @property
    def holds(self) -> str:
        """The interval of the plan."""
        return f"[{self.low:.4g}, {self.high:.4g}]"

    @property
    def seen(self) -> str:
        """The interval that was seen."""
        return f"[{self.seen_low:.4g}, {self.seen_high:.4g}]"

    def __str__(self) -> str:
        return (
            f"{self.site} ({self.approximation}): {self.quantity} lies in {self.seen}, "
            f"the plan holds in {self.holds}: {self.values:.2%} of the values "
            f"and {self.calls:.2%} of the inputs are outside"
        )


@dataclass(frozen=True)
class Held:
    """Where one choice holds: the whole site, or the positions `index` along `dim` of its input."""

    label: str
    approximation: str
    domain: Domain
    dim: int = 0
    index: tuple[int, ...] | None = None

    def part(self, x: Tensor) -> Tensor:
        """What the choice sees of the site's input."""
        return x if self.index is None else x.index_select(self.dim, torch.tensor(self.index))


def held(plan: Plan, approximations: Mapping[str, Approximation]) -> dict[str, list[Held]]:
    """Site -> where its choices hold, for those that do not hold everywhere."""
    found: dict[str, list[Held]] = {}
    for site, choice in plan.choices.items():
        parts: list[tuple[str, Choice, int, tuple[int, ...] | None]]
        if isinstance(choice, Split):
            parts = [(f"{site} {part.label}", part.choice, choice.dim, part.index) for part in choice.parts]
        else:
            parts = [(site, choice, 0, None)]
        for label, one, dim, index in parts:
            domain = approximations[one.approximation].domain(one.options) if one.approximation in approximations else {}
            if domain:
                found.setdefault(site, []).append(Held(label, one.approximation, domain, dim, index))
    return found


def range_report(
    graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation], inputs: Inputs
) -> list[RangeViolation]:
    """Every quantity that a plan depends on, in the order of the graph, with the share of values outside (0 if none).

    Structural choices are in place: what comes after them was fitted to what it sees then.
    """
    wanted = held(plan, approximations)
    functions = {
        node: site_function(node, plan.choices[site], approximations)
        for site, node in sites(graph_module).items()
        if site in plan.choices and _structural(plan.choices[site], approximations)
    }

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        if not is_site(node) or node.meta["site"] not in wanted:
            return None
        found = {}
        for place, one in enumerate(wanted[node.meta["site"]]):
            seen = quantities(node, (one.part(args[0]), *args[1:]), kwargs, 1.0)
            found[str(place)] = {name: _counted(seen[name], *interval) for name, interval in one.domain.items()}
        return found

    seen = observe(graph_module, inputs, look, functions)
    return [
        _found(one, name, seen[node.name][str(place)][name])
        for site, node in sites(graph_module).items()
        for place, one in enumerate(wanted.get(site, []))
        for name in one.domain
    ]


def outside(
    graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation], inputs: Inputs
) -> list[RangeViolation]:
    """The quantities of which some value is outside."""
    return [found for found in range_report(graph_module, plan, approximations, inputs) if found.values > 0]


def _structural(choice: Choice | Split, approximations: Mapping[str, Approximation]) -> bool:
    found = (approximations.get(one.approximation) for one in choice.choices)
    return any(one is not None and one.level == "structural" for one in found)


def _counted(value: Tensor, low: float, high: float) -> Tensor:
    """[smallest, largest, share outside] of one call."""
    slack = ROUNDING * (high - low)
    out = (value < low - slack) | (value > high + slack)
    return torch.stack([value.amin().double(), value.amax().double(), out.double().mean()])


def _found(one: Held, name: str, rows: Tensor) -> RangeViolation:
    rows = rows.reshape(-1, 3)
    return RangeViolation(
        one.label, one.approximation, name, *one.domain[name], float(rows[:, 0].min()), float(rows[:, 1].max()),
        float(rows[:, 2].mean()), float((rows[:, 2] > 0).double().mean()),
    )  # fmt: skip


def named_like(graph_module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """The graph with the plan's names at its sites, which an exchange format may have shortened: matched by their order."""
    own = sites(graph_module)
    wanted = list(plan.choices)
    operators = [getattr(operator_of(node), "name", "") for node in own.values()]
    if [site_operator(name) for name in wanted] != operators:
        raise PlanError("the plan's sites are not those of the model", hint="Make the bundle again with `mpcc optimize`.")
    for name, node in zip(wanted, own.values(), strict=True):
        node.meta["site"] = name
    return graph_module
