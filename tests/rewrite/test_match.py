"""Patterns: order, sharing, skipping, numbers, and the reason when there is no match."""

from __future__ import annotations

import torch

from mpcc.ir import mpc
from mpcc.rewrite.edit import Refusal
from mpcc.rewrite.match import Match, Pattern
from tests.models.graphs import graph_of

SHAPES = {"x": (3, 4), "y": (3, 4)}


def match(pattern: Pattern, function) -> Match | Refusal:  # type: ignore[no-untyped-def]
    graph = graph_of(function, SHAPES).graph
    return pattern.match(next(iter(reversed(graph.nodes))).args[0])  # type: ignore[arg-type]


def reason(pattern: Pattern, function) -> str:  # type: ignore[no-untyped-def]
    found = match(pattern, function)
    assert isinstance(found, Refusal)
    return str(found)


def test_operands_and_nodes() -> None:
    found = match(Pattern(lambda a, b: mpc.sub(mpc.square(a), b)), lambda x, y: mpc.sub(mpc.square(x), y))
    assert isinstance(found, Match)
    assert (found["a"].name, found["b"].name) == ("x", "y") and [n.name for n in found.inner] == ["sub", "square"]


def test_both_orders_of_a_sum() -> None:
    pattern = Pattern(lambda a, b: mpc.add(mpc.square(a), b))
    assert isinstance(match(pattern, lambda x, y: mpc.add(y, mpc.square(x))), Match)


def test_one_order_of_a_difference() -> None:
    pattern = Pattern(lambda a, b: mpc.sub(mpc.square(a), b))
    assert reason(pattern, lambda x, y: mpc.sub(y, mpc.square(x))).endswith("computes placeholder, not square")


def test_the_same_operand_twice() -> None:
    pattern = Pattern(lambda a: mpc.mul(a, mpc.square(a)))
    assert isinstance(match(pattern, lambda x, y: mpc.mul(x, mpc.square(x))), Match)
    assert "as a elsewhere" in reason(pattern, lambda x, y: mpc.mul(x, mpc.square(y)))


def test_numbers_to_six_digits() -> None:
    pattern = Pattern(lambda a: mpc.scale(a, 2.0**-0.5))
    assert isinstance(match(pattern, lambda x, y: mpc.scale(x, 0.70710677)), Match)
    assert reason(pattern, lambda x, y: mpc.scale(x, 0.7)).endswith("0.7 is not 0.7071067811865476")


def test_skipped_nodes_are_kept() -> None:
    pattern = Pattern(lambda a: mpc.square(mpc.square(a)), skip={mpc.scale})
    found = match(pattern, lambda x, y: mpc.square(mpc.scale(mpc.scale(mpc.square(x), 2.0), 3.0)))
    assert isinstance(found, Match) and [n.args[1] for n in found.skipped] == [3.0, 2.0]


def test_a_shared_inner_node() -> None:
    def function(x, y):  # type: ignore[no-untyped-def]
        s = mpc.square(x)
        return mpc.mul(mpc.scale(s, 2.0), mpc.add(s, y))

    assert "read by 2 nodes" in reason(Pattern(lambda a, b: mpc.mul(mpc.scale(mpc.square(a), 2.0), b)), function)
    shared = Pattern(lambda a, b: mpc.mul(mpc.scale(mpc.square(a), 2.0), b), shared=True)
    assert isinstance(match(shared, function), Match)


def test_keywords() -> None:
    pattern = Pattern(lambda a, d, k: mpc.sum(a, d, k))
    found = match(pattern, lambda x, y: mpc.sum(x, (1,), keepdim=True))
    assert isinstance(found, Match) and found["k"] is True
    assert torch.Size(SHAPES["x"]) == found["a"].meta["val"].shape
