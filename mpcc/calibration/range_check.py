"""Which inputs leave the ranges on which a plan's approximations are valid: observed in a float run, site by site.

    for found in outside(graph, plan, approximations, images):
        print(found)           blocks.2.attn.softmax (softmax_mean_shift): denominator: observed [1, 131], valid range [1, 90] ...

When parties run, values are secret, so an input outside a valid range gives a wrong answer that looks like any other. Here
ranges are checked in the clear, on inputs at hand; expect the same share of other inputs to be outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Domain, Plan, Split
from mpcc.approximate.expand import site_function
from mpcc.approximate.options import domain_of
from mpcc.errors import PlanError
from mpcc.ir.nn import is_site, operator_of, site_operator, sites

from .quantities import quantities
from .ranges import Inputs, observe

ROUNDING = 1e-3
"""Slack on either side, relative to the width of the valid range, whose ends were rounded when they were written down."""


@dataclass(frozen=True)
class RangeViolation:
    """A quantity of a site against the valid range of the chosen approximation; shares of values and of calls outside."""

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
        """The valid range."""
        return f"[{self.low:.4g}, {self.high:.4g}]"

    @property
    def seen(self) -> str:
        """The observed range."""
        return f"[{self.seen_low:.4g}, {self.seen_high:.4g}]"

    def __str__(self) -> str:
        return (
            f"{self.site} ({self.approximation}): {self.quantity}: observed {self.seen}, valid range {self.holds}; "
            f"{self.values:.2%} of the values and {self.calls:.2%} of the inputs are outside"
        )


@dataclass(frozen=True)
class ValidRange:
    """Where one choice is valid, for the whole site or for the positions `index` along `dim` of its input."""

    label: str
    approximation: str
    domain: Domain
    dim: int = 0
    index: tuple[int, ...] | None = None

    def part(self, x: Tensor) -> Tensor:
        """What the choice sees of the site's input."""
        return x if self.index is None else x.index_select(self.dim, torch.tensor(self.index))


def valid_ranges(plan: Plan, approximations: Mapping[str, Approximation]) -> dict[str, list[ValidRange]]:
    """Site -> the ranges of its choices, for those that are not valid everywhere."""
    found: dict[str, list[ValidRange]] = {}
    for site, choice in plan.choices.items():
        parts: list[tuple[str, Choice, int, tuple[int, ...] | None]]
        if isinstance(choice, Split):
            parts = [(f"{site} {part.label}", part.choice, choice.dim, part.index) for part in choice.parts]
        else:
            parts = [(site, choice, 0, None)]
        for label, one, dim, index in parts:
            known = approximations.get(one.approximation)
            domain = {} if known is None else domain_of(known, one.options, site)
            if domain:
                found.setdefault(site, []).append(ValidRange(label, one.approximation, domain, dim, index))
    return found


def range_report(
    graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation], inputs: Inputs
) -> list[RangeViolation]:
    """Every quantity that a plan depends on, in the order of the graph, with the share of values outside (0 if none).

    Structural choices are in place: what comes after them was fitted to what it sees then.
    """
    return [_found(one, name, rows) for one, name, rows in _observed(graph_module, plan, approximations, inputs)]


def share_outside(
    graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation], inputs: Inputs
) -> float:
    """The share of the inputs of which some value leaves a valid range, at whatever site."""
    observed = _observed(graph_module, plan, approximations, inputs)
    outside = [rows[..., 2].reshape(len(rows), -1).amax(1) > 0 for _, _, rows in observed]
    return float(torch.stack(outside).any(0).double().mean()) if outside else 0.0


def _observed(
    graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation], inputs: Inputs
) -> list[tuple[ValidRange, str, Tensor]]:
    """(where a choice holds, quantity, [calls, 3]: smallest, largest, share outside) in the order of the graph."""
    wanted = valid_ranges(plan, approximations)
    functions = structural_functions(graph_module, plan, approximations)

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
        (one, name, seen[node.name][str(place)][name])
        for site, node in sites(graph_module).items()
        for place, one in enumerate(wanted.get(site, []))
        for name in one.domain
    ]


def structural_functions(
    graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation]
) -> dict[fx.Node, Callable[..., Any]]:
    """Site -> its function, where the plan changes what is computed."""
    return {
        node: site_function(node, plan.choices[site], approximations)
        for site, node in sites(graph_module).items()
        if site in plan.choices and _structural(plan.choices[site], approximations)
    }


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


def _found(one: ValidRange, name: str, rows: Tensor) -> RangeViolation:
    rows = rows.reshape(-1, 3)
    return RangeViolation(
        one.label, one.approximation, name, *one.domain[name], float(rows[:, 0].min()), float(rows[:, 1].max()),
        float(rows[:, 2].mean()), float((rows[:, 2] > 0).double().mean()),
    )  # fmt: skip


def named_like(graph_module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """The graph with the plan's names at its sites, matched by their order: an exchange format may have shortened them."""
    own = sites(graph_module)
    wanted = list(plan.choices)
    operators = [getattr(operator_of(node), "name", "") for node in own.values()]
    if [site_operator(name) for name in wanted] != operators:
        raise PlanError("the plan's sites do not match those of the model", hint="Make the bundle again with `mpcc optimize`.")
    for name, node in zip(wanted, own.values(), strict=True):
        node.meta["site"] = name
    return graph_module
