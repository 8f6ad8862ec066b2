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

from ..errors import PlanError
from ..ir.nn import is_site, operator_of, sites
from ..ir.ranges import Inputs, observe
from ..rewrite import Approximation, Choice, Domain, Plan
from .statistics import quantities

ROUNDING = 1e-3
"""How far outside is none: of the interval's width, for numbers that were rounded when they were written down."""


@dataclass(frozen=True)
class Outside:
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

    def __str__(self) -> str:
        return (
            f"{self.site} ({self.approximation}): {self.quantity} lies in [{self.seen_low:.4g}, {self.seen_high:.4g}], "
            f"the plan holds in [{self.low:.4g}, {self.high:.4g}]: {self.values:.2%} of the values "
            f"and {self.calls:.2%} of the inputs are outside"
        )


def domains(
    graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation]
) -> dict[str, tuple[str, Domain]]:
    """Site -> the approximation chosen and where it holds, for those that do not hold everywhere."""
    found: dict[str, tuple[str, Domain]] = {}
    for site in sites(graph_module):
        choice = plan.choices.get(site)
        for part in _parts(choice):
            approximation = approximations.get(part.approximation)
            domain = approximation.domain(part.options) if approximation is not None else {}
            if domain:
                found[site] = (part.approximation, _narrower(found.get(site, ("", {}))[1], domain))
    return found


def _parts(choice: Any) -> list[Choice]:
    """The choices at a site: one, or those of its parts."""
    if choice is None:
        return []
    return [choice] if isinstance(choice, Choice) else [part.choice for part in choice.parts]


def _narrower(one: Domain, other: Domain) -> Domain:
    """Where both hold."""
    both = dict(one)
    for name, (low, high) in other.items():
        least, most = both.get(name, (low, high))
        both[name] = (max(low, least), min(high, most))
    return both


def watch(
    graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation], inputs: Inputs
) -> list[Outside]:
    """Every quantity that a plan depends on, in the order of the graph, with the share of values outside (0 if none)."""
    wanted = domains(graph_module, plan, approximations)

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        if not is_site(node) or node.meta["site"] not in wanted:
            return None
        domain = wanted[node.meta["site"]][1]
        return {name: _counted(q, *domain[name]) for name, q in quantities(node, args, kwargs, 1.0).items() if name in domain}

    seen = observe(graph_module, inputs, look)
    return [
        _found(site, wanted[site][0], name, wanted[site][1][name], rows)
        for site, node in sites(graph_module).items()
        if site in wanted
        for name, rows in seen[node.name].items()
    ]


def outside(
    graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation], inputs: Inputs
) -> list[Outside]:
    """The quantities of which some value is outside."""
    return [found for found in watch(graph_module, plan, approximations, inputs) if found.values > 0]


def _counted(value: Tensor, low: float, high: float) -> Tensor:
    """[smallest, largest, share outside] of one call."""
    slack = ROUNDING * (high - low)
    out = (value < low - slack) | (value > high + slack)
    return torch.stack([value.amin().double(), value.amax().double(), out.double().mean()])


def _found(site: str, approximation: str, name: str, interval: tuple[float, float], rows: Tensor) -> Outside:
    rows = rows.reshape(-1, 3)
    return Outside(
        site, approximation, name, *interval, float(rows[:, 0].min()), float(rows[:, 1].max()),
        float(rows[:, 2].mean()), float((rows[:, 2] > 0).double().mean()),
    )  # fmt: skip


def named_like(graph_module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """The graph with the plan's names at its sites, which an exchange format may have shortened: matched by their order."""
    own = sites(graph_module)
    wanted = list(plan.choices)
    operators = [getattr(operator_of(node), "name", "") for node in own.values()]
    if [_operator(name) for name in wanted] != operators:
        raise PlanError("the plan's sites are not those of the model", hint="Make the bundle again with `mpcc optimize`.")
    for name, node in zip(wanted, own.values(), strict=True):
        node.meta["site"] = name
    return graph_module


def _operator(site: str) -> str:
    return site.rsplit(".", 1)[-1].split("#")[0]
