"""Which choices are to blame where inputs that are somewhat larger give NaN or infinite values.

A polynomial is soon lost beyond its range, and what it then gives is further beyond the range of the next. So each choice
is tried on what its site sees when those before it are exact, or structural and not lost themselves: what is far off
there is the cause, wherever the infinite values show. A norm that divides by nothing that it sees passes the larger scale
on: where the norm before a lost site does, it is the one to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Split
from mpcc.approximate.expand import site_function
from mpcc.approximate.logit_margin import STRETCH
from mpcc.calibration.ranges import Inputs, observe
from mpcc.errors import RangeError
from mpcc.ir.nn import operator_of, sites

LOST, LOST_STRUCTURAL = 1.0, 30.0
"""Root mean square of the error, relative to that of the exact values. At 1 a choice says no more than zero would. A structural
choice is another function of another scale, often several times off where it works; a polynomial outside its range is off by
powers of ten within one site."""
PASSED_ON = 0.6 * (STRETCH - 1)
"""Error of a norm that passes the larger scale of its inputs on. Divided by a constant, all of the stretch is left (STRETCH - 1);
exactly normalised, none. Somewhat above the middle, as structural norms have an error of their own."""
NORMS = ("layer_norm", "rms_norm", "group_norm")


class Runaway(RangeError):
    """Values are NaN or infinite. `causes`: for each the sites where another choice may mend it, the likeliest first."""

    def __init__(self, what: str, causes: Sequence[tuple[str, ...]]) -> None:
        super().__init__(what)
        self.causes = causes


def causes(
    graph_module: fx.GraphModule,
    choices: Mapping[str, Choice | Split],
    approximations: Mapping[str, Approximation],
    inputs: Inputs,
) -> list[tuple[str, ...]]:
    """For every site whose choice is lost on some of these inputs: the norm before it that passed the scale on, itself."""
    nodes = sites(graph_module)
    functions = {node: site_function(node, choices[site], approximations) for site, node in nodes.items()}
    structural = {
        node
        for site, node in nodes.items()
        if any(approximations[one.approximation].level == "structural" for one in choices[site].choices)
    }

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        return _off(functions[node](*args, **kwargs), _exact(node, args, kwargs)) if node in functions else None

    seen = observe(graph_module, inputs, look, {node: _unless_lost(node, functions[node]) for node in structural})
    found: list[tuple[str, ...]] = []
    passing: tuple[str, ...] = ()
    for site, node in nodes.items():
        off = float(seen[node.name].max())
        if off > (LOST_STRUCTURAL if node in structural else LOST):
            found.append((*passing, site))
        if getattr(operator_of(node), "name", "") in NORMS:
            passing = (site,) if node in structural and off > PASSED_ON else ()
    return found


def _unless_lost(node: fx.Node, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, or the exact operator where the function is lost."""

    def call(*args: Any, **kwargs: Any) -> Any:
        found, exact = function(*args, **kwargs), _exact(node, args, kwargs)
        return torch.where(_off(found, exact) > LOST_STRUCTURAL, exact, found)

    return call


def _exact(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return node.target(*args, **kwargs)  # type: ignore[operator, no-any-return]


def _off(found: Tensor, exact: Tensor) -> Tensor:
    """The relative error, infinite where it is NaN."""
    wrong, size = (found - exact).double().square().mean(), exact.double().square().mean()
    return torch.nan_to_num((wrong / size.clamp(min=1e-30)).sqrt(), nan=torch.inf, posinf=torch.inf)
