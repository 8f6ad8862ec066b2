"""Faults planted into a valid program: each is found, by name, at its node and layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import fx

from mpcc.errors import InvalidGraph
from mpcc.ir import dealer, mpc, online
from mpcc.ir.info import KEY, annotate
from mpcc.program.program import Program
from mpcc.program.structure import verify
from tests.models.programs import NAMES, program


def first(made: Program, target: Any) -> fx.Node:
    return next(node for node in made.online.graph.nodes if node.target is target)


def dealt(made: Program, target: Any) -> fx.Node:
    return next(node for node in made.dealer.graph.nodes if node.target is target)


def foreign(made: Program) -> Program:
    first(made, online.power_sum).target = mpc.square
    return made


def of_the_dealer(made: Program) -> Program:
    first(made, online.power_sum).target = dealer.multiply
    return made


def resized(made: Program) -> Program:
    first(made, online.weight_product).meta["val"] = torch.empty(1, 5, 9, dtype=torch.int64, device="meta")
    return made


def real(made: Program) -> Program:
    first(made, online.weight_product).meta["val"] = torch.empty(1, 5, 8, device="meta")
    return made


def too_far(made: Program) -> Program:
    node = first(made, online.select)
    node.update_arg(3, 63)
    return made


def unpacked(made: Program) -> Program:
    node = first(made, online.and_planes)
    node.update_arg(1, node.args[0])
    return made


def backwards(made: Program) -> Program:
    node = first(made, online.open_)
    node.all_input_nodes[0].prepend(node)
    return made


def bare(made: Program) -> Program:
    del first(made, online.leaves).meta[KEY]
    return made


def unscheduled(made: Program) -> Program:
    annotate(first(made, online.leaves), phase=None)
    return made


def early(made: Program) -> Program:
    annotate(first(made, online.and_planes), level=0)
    return made


def keyword(made: Program) -> Program:
    first(made, online.reveal).kwargs = {"x": 1}
    return made


def of_no_source(made: Program) -> Program:
    return replace(made, correlations=made.correlations[1:])


def of_another_size(made: Program) -> Program:
    share = made.nodes[made.correlations[0][0]]
    share.meta["val"] = torch.empty(2, 5, 16, dtype=torch.int64, device="meta")
    return made


def at_the_dealer(made: Program) -> Program:
    dealt(made, dealer.tables).update_arg(1, 60)
    return made


FAULTS: dict[Callable[[Program], Program], str] = {
    foreign: r"node power_sum in layer l: .*square.* is not an operation of this level",
    of_the_dealer: r"node power_sum in layer l: .*multiply.* is not an operation of this level",
    resized: r"node weight_product in layer l: weight_product gives the shape \[1, 5, 8\], not \[1, 5, 9\]",
    real: r"node weight_product in layer l: a value of torch.float32",
    too_far: r"node select in layer l: select: a shift of 63 bits in a ring of \d+",
    unpacked: r"node and_planes in layer l: and_planes: \w+ has the shape \[6, 1\], not 7 planes",
    backwards: r"node open_ in layer l: open: argument 1: mask_with\w* is not a value computed before it",
    bare: r'node leaves: meta\["info"\] is missing',
    unscheduled: r"node leaves in layer l: the phase is missing",
    early: r"node and_planes in layer l: scheduled online after 0 rounds; what it reads is ready online after \d",
    keyword: r"node reveal in layer output: reveal takes no keyword arguments",
    of_no_source: r"node correlation_\d in layer l: a share of no dealer value",
    of_another_size: r"in layer l: ",
    at_the_dealer: r"node tables in layer l: tables: argument 2: 60 is not between 0 and 47",
}


@pytest.mark.parametrize("name", NAMES)
def test_what_the_compiler_makes_is_well_formed(name: str) -> None:
    verify(program(name))


@pytest.mark.parametrize(("plant", "message"), FAULTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_is_named(plant: Callable[[Program], Program], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        verify(plant(program("mixed")))
