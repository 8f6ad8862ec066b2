"""Faults planted into a valid mpc graph: each is found, by name, at its node and layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import fx

from mpcc.errors import InvalidGraph
from mpcc.ir import mpc
from mpcc.ir.verify_mpc import verify
from mpcc.lowering import lower
from tests.models.programs import graph_of, linear, mixed, weights


def graph() -> fx.GraphModule:
    return graph_of(mixed, **weights())


def first(module: fx.GraphModule, target: Any) -> fx.Node:
    return next(node for node in module.graph.nodes if node.target is target)


def foreign(module: fx.GraphModule) -> None:
    first(module, mpc.square).target = torch.relu


def resized(module: fx.GraphModule) -> None:
    first(module, mpc.linear).meta["val"] = torch.empty(1, 5, 9, device="meta")


def unfitting(module: fx.GraphModule) -> None:
    node = first(module, mpc.linear)
    node.args = (node.args[0], node.args[0], node.args[2])


def unknown_size(module: fx.GraphModule) -> None:
    first(module, mpc.less).meta["val"] = None


def no_layer(module: fx.GraphModule) -> None:
    del first(module, mpc.select).meta["layer"]


def no_parameter(module: fx.GraphModule) -> None:
    del module.w


def other_parameter(module: fx.GraphModule) -> None:
    module.w = torch.zeros(3)


def backwards(module: fx.GraphModule) -> None:
    first(module, mpc.polynomial).prepend(first(module, mpc.add))


FAULTS: dict[Callable[[fx.GraphModule], None], str] = {
    foreign: r"node square.* in layer l: .*relu.* is not a primitive of the mpc level",
    resized: r"node linear in layer l: the shape is \[1, 5, 8\], not \[1, 5, 9\]",
    unfitting: r"node linear in layer l: the arguments do not fit linear",
    unknown_size: r'node less in layer l: meta\["val"\] is not a tensor',
    no_layer: r'node select: meta\["layer"\] is missing',
    no_parameter: r"node w: there is no parameter or buffer w",
    other_parameter: r"node w: the shape is \[3\], not \[8, 16\]",
    backwards: r"node add in layer l: polynomial is read before it is computed",
}


@pytest.mark.parametrize(("plant", "message"), FAULTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_is_named(plant: Callable[[fx.GraphModule], None], message: str) -> None:
    module = graph()
    verify(module, ranges=True)
    plant(module)
    with pytest.raises(InvalidGraph, match=message):
        verify(module)


def test_a_missing_range_matters_where_lowering_needs_it() -> None:
    module = graph()
    del first(module, mpc.square).meta["range"]
    verify(module)
    with pytest.raises(InvalidGraph, match="node square in layer l: no calibrated range"):
        lower(module)


def test_lowering_needs_the_inputs_of_some_calls() -> None:
    module = graph()
    module.meta.clear()
    verify(module)
    with pytest.raises(InvalidGraph, match="run record_ranges on the mpc graph first"):
        lower(module)


def test_a_range_that_is_none() -> None:
    module = graph()
    node = first(module, mpc.square)
    node.meta["range"] = replace(node.meta["range"], high=math.nan)
    with pytest.raises(InvalidGraph, match="node square in layer l: the calibrated range"):
        lower(module)


def test_what_depends_on_weights_only_needs_no_range() -> None:
    module = graph_of(lambda x, w, b: linear(x, mpc.add(w, w), b), **weights())
    del first(module, mpc.add).meta["range"]
    verify(module, ranges=True)
