"""Where the error of a plan comes from: float, approximated, fixed point and private side by side, and site by site.

    float           the model as it is; where its weights were made for the plan (compensated or tuned), with the plan's
                    structural choices in place, since they mean nothing without
    approximated    every site by its chosen approximation, in float
    fixed point     the program, emulated
    private         the program, run by two parties and a dealer

At each site the approximation is held against the operator on the very values that it gets there (`own`, beside what it
declares), and the program's value against that of the approximated model (`fixed`: the error accumulated so far). A site whose
result is no value of the program, since a factor of it was moved behind the next product, is held against it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from mpcc import registry
from mpcc.approximate import Approximation, Choice, Plan, Split
from mpcc.approximate.expand import site_function
from mpcc.calibration import RangeViolation, range_report
from mpcc.calibration.range_check import structural_functions
from mpcc.calibration.ranges import observe, outputs_with, stack_calls
from mpcc.errors import BundleError
from mpcc.ir.nn import is_site, sites
from mpcc.pipeline import mpc_graph
from mpcc.pipeline.compensation import was_compensated
from mpcc.runtime.engine.fidelity import accumulated_errors
from mpcc.runtime.executable import Executable

Calls = list[tuple[Tensor, ...]]


@dataclass(frozen=True)
class SiteError:
    """What enters at a site. `size` is the root mean square of its exact result, `own` the approximation's largest error
    there in float, `declared` its bound (None: it has none), `fixed` how far the program's value is from the approximated
    model's at the end of the site.

    `merged` is empty where that value is the site's own result. Else it says what became of it: the layer in which it was
    merged with others, and where `fixed` is measured; or, where `fixed` is None, why there is nothing to measure."""

    site: str
    approximation: str
    size: float
    own: float
    declared: float | None
    fixed: float | None
    merged: str = ""


GONE = "not measured: the program has no such value"
"""Of a site of which the program has nothing: an identity, or what it computes for another site too."""


class Verification:
    """An executable with its float model, on some calls."""

    def __init__(self, executable: Executable, calls: Calls) -> None:
        if executable.reference is None:
            raise BundleError("there is no model to verify against", hint="Make the bundle again with `mpcc optimize`.")
        self.executable, self.calls, self.model = executable, calls, executable.reference
        self.plan, self.known = executable.plan, registry.approximations()

    @cached_property
    def columns(self) -> tuple[Tensor, ...]:
        """[calls, *shape] of every input."""
        return stack_calls(self.model, self.calls)

    @cached_property
    def graph(self) -> fx.GraphModule:
        """The mpc-level graph that the program was made of."""
        return mpc_graph(self.model, self.plan)

    def plain(self) -> list[Tensor]:
        """The float model's first output, call by call."""
        return list(outputs_with(self.model, self.calls, self.in_place)[0])

    @cached_property
    def in_place(self) -> dict[fx.Node, Callable[..., Any]]:
        """The structural choices, where the weights of the model were made for its plan."""
        made_for_plan = was_compensated(self.plan) or self.plan.notes.get("made_by") == "tune"
        return structural_functions(self.model, self.plan, self.known) if made_for_plan else {}

    def approximated(self) -> list[Tensor]:
        """The approximated model's."""
        return [_first(self.graph(*call)) for call in self.calls]

    def outside(self) -> list[RangeViolation]:
        """Where the inputs leave the range on which the plan holds."""
        return [found for found in range_report(self.model, self.plan, self.known, self.calls) if found.values > 0]

    def site_errors(self) -> list[SiteError]:
        """A row for each site, in the order of the graph."""
        own = own_errors(self.model, self.plan, self.known, self.calls, self.in_place)
        errors = accumulated_errors(self.executable.program, self.graph, self.columns)
        ends = {site: (seen.largest, seen.moved) for site, seen in errors.items()}
        return [
            SiteError(site, _names(choice), *own[site], _declared(choice, self.known), *ends.get(site, (None, GONE)))
            for site, choice in self.plan.choices.items()
            if site in own
        ]


def own_errors(
    model: fx.GraphModule,
    plan: Plan,
    known: Mapping[str, Approximation],
    calls: Calls,
    in_place: Mapping[fx.Node, Callable[..., Any]] | None = None,
) -> dict[str, tuple[float, float]]:
    """Site -> root mean square of the operator's result, and the approximation's largest error on the same operands, which
    are computed with the functions `in_place`."""

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        if not is_site(node) or node.meta["site"] not in plan.choices:
            return None
        found = site_function(node, plan.choices[node.meta["site"]], known)(*args, **kwargs)
        exact = node.target(*args, **kwargs)  # type: ignore[operator]
        return torch.stack([exact.double().square().mean(), (found - exact).double().abs().max()])

    seen = observe(model, calls, look, in_place)
    rows = {site: seen[node.name].reshape(-1, 2) for site, node in sites(model).items() if node.name in seen}
    return {site: (float(row[:, 0].mean().sqrt()), float(row[:, 1].max())) for site, row in rows.items()}


def _names(choice: Choice | Split) -> str:
    return ", ".join(dict.fromkeys(one.approximation for one in choice.choices))


def _declared(choice: Choice | Split, known: Mapping[str, Approximation]) -> float | None:
    """The largest declared bound of the choices at a site; None if one has none."""
    bounds = [known[one.approximation].error(one.options) for one in choice.choices]
    return None if any(bound is None for bound in bounds) else max(bound for bound in bounds if bound is not None)


def _first(outputs: Any) -> Tensor:
    found: Tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    return found.detach()
