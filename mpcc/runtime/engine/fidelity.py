"""Whether a program computes what its plan says: its emulation in fixed point held against the approximated model in float.

What a plan's approximations do to the outputs is the search's business and is judged there. What is judged here is only
what the ring adds: roundings, and values that lost their bits or left it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from mpcc.calibration.ranges import Inputs, observe, stack_calls, values_a_call
from mpcc.errors import PrecisionError
from mpcc.ir.info import info_of
from mpcc.ir.kinds import printable
from mpcc.ir.site_ends import site_ends

from .emulate import Emulator, errors

if TYPE_CHECKING:
    from mpcc.program import Program

MOST_CALLS, MOST_VALUES = 4, 1 << 28
"""Calls that are emulated: a program that lost its bits shows it on any of them. Fewer of a large graph, for the time."""


@dataclass(frozen=True)
class AccumulatedError:
    """The error accumulated up to the end of a site: the largest difference, and the root mean square of the value itself.

    `moved`: what the value is where the site's own result is none of the program's (see `mpcc.ir.site_ends`)."""

    largest: float
    size: float
    moved: str = ""


def check(program: Program, graph: fx.GraphModule, inputs: Inputs, tolerance: float) -> None:
    """PrecisionError where an output is off by more than `tolerance` times its spread over the first calls.

    `graph` is the mpc-level graph that the program was made of. The error names the first site whose values are off by
    that share of their size.
    """
    if math.isinf(tolerance):
        return
    emulator = Emulator(program)
    calls = max(1, min(MOST_CALLS, emulator.at_once, MOST_VALUES // max(1, values_a_call(graph))))
    columns = tuple(column[:calls] for column in stack_calls(graph, inputs))
    expected, found = float_outputs(graph, columns), emulator.calls(*columns)
    share = max(off(one, other) for one, other in zip(found, expected, strict=True))
    if share <= tolerance:
        return
    sites = accumulated_errors(program, graph, columns)
    where = next((site for site, seen in sites.items() if seen.largest > tolerance * seen.size), None)
    raise PrecisionError(
        f"in fixed point the outputs are off by {share:.2g} of their spread, more than {tolerance:g}",
        site=where,
        hint="Too few bits are left there in a ring of 64. Calibrate with representative inputs, choose other approximations "
        "(a lower --level, or --plan), or allow more with --tolerance.",
    )


def off(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over the standard deviation of all expected values (their size, if all are one)."""
    expected = expected.detach().double()
    spread, size = float(expected.std(correction=0)), float(expected.square().mean().sqrt())
    error = float((found.detach().double() - expected).square().mean().sqrt())
    return error / (spread if spread > 1e-6 * size else max(size, 1e-12))


@torch.no_grad()
def float_outputs(graph: fx.GraphModule, columns: Sequence[Tensor]) -> list[Tensor]:
    """Every output of a graph for each call, stacked."""
    rows = [graph(*(column[call] for column in columns)) for call in range(len(columns[0]))]
    return [torch.stack(column) for column in zip(*(r if isinstance(r, tuple) else (r,) for r in rows), strict=True)]


def compare(model: fx.GraphModule, program: Program, inputs: Inputs, limit: int = 16) -> dict[str, float]:
    """Errors of the emulated program's first output against a float model's, on the first calls."""
    columns = tuple(column[:limit] for column in stack_calls(model, inputs))
    return errors(Emulator(program).calls(*columns)[0], float_outputs(model, columns)[0])


def accumulated_errors(program: Program, graph: fx.GraphModule, columns: Sequence[Tensor]) -> dict[str, AccumulatedError]:
    """Site -> how far the program's value is from the float one where the site ends; without those that it has no such value of.

    Nor are those compared whose factors the graph, made anew of a stored model, has moved elsewhere than the program's.
    """
    found_ends = ((node, info_of(node).end) for node in program.online.graph.nodes if node.op != "output")
    ends = {end.site: (node, end.scale) for node, end in found_ends if end is not None}
    places = {
        site: (end, *ends[printable(site)])
        for site, end in site_ends(graph.graph).items()
        if printable(site) in ends and _same_place(ends[printable(site)][0], end.node, site)
    }
    exact = observe(
        graph,
        [tuple(column[i] for column in columns) for i in range(len(columns[0]))],
        _keep({end.node.name for end, _, _ in places.values()}),
    )
    kept = Emulator(program).watched(columns, {node.name for _, node, _ in places.values()})[1]
    found = {}
    for site, (end, node, scale) in places.items():
        value, expected = kept[node.name].double() / scale, exact[end.node.name].double()
        if value.shape == expected.shape:
            largest, size = float((value - expected).abs().max()), float(expected.square().mean().sqrt())
            found[site] = AccumulatedError(largest, size, end.moved)
    return found


def _same_place(computed: fx.Node, expected: fx.Node, site: str) -> bool:
    """Whether both belong to the site or neither; then to one layer, or one to a layer in the other's."""
    origin, layer = info_of(computed).origin, printable(str(expected.meta.get("layer") or ""))
    own = origin.site == printable(site)
    if own or expected.meta.get("site") == site:
        return own and expected.meta.get("site") == site
    return origin.layer.startswith(layer) or layer.startswith(origin.layer)


def _keep(names: Collection[str]) -> Any:
    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Any, value: Any) -> Any:
        return value if node.name in names else None

    return look
