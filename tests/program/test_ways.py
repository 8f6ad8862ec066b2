"""Which way openings travel, what they cost, and that both parties still compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mpcc.errors import InvalidGraph
from mpcc.ir import mpc, online
from mpcc.ir.info import annotate, info_of
from mpcc.program import Program, structure
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import SHAPE, Threads, build, weights

GENERATOR = torch.Generator().manual_seed(5)
SECOND = torch.randn(4, 8, generator=GENERATOR) / 4


def squared(x: Any, w: Any, b: Any) -> Any:
    """The layer's input goes to the server alone; of its result the client's share is known before the input."""
    return mpc.square(mpc.linear(x, w, b))


def residual(x: Any, w: Any, b: Any) -> Any:
    """A sum with something that the client's input is in: both send."""
    y = mpc.linear(x, w, b)
    return mpc.square(mpc.add(y, mpc.sum(x, (-1,), True)))


def both_uses(x: Any, w: Any, b: Any) -> Any:
    """The client needs the opened value for its square."""
    return mpc.add(mpc.linear(x, w, b), mpc.scale(mpc.sum(mpc.square(x), (-1,), True), 0.1))


def chained(x: Any, w: Any, b: Any, v: Any) -> Any:
    """Of a layer's input that is a layer's result neither part but the server's would be missing: the client sends."""
    return mpc.linear(mpc.linear(x, w, b), v)


def viewed(x: Any, w: Any, b: Any) -> Any:
    """Views of the input and of the result."""
    y = mpc.linear(torch.ops.aten.reshape.default(x, (SHAPE[0] * SHAPE[1], SHAPE[2])), w, b)
    return mpc.square(torch.ops.aten.reshape.default(y, (*SHAPE[:2], 8)))


def ways(made: Program) -> list[str]:
    return [info_of(node).way for node in made.online.graph.nodes if node.target is online.open_]


CASES: list[tuple[Callable[..., Any], dict[str, Any], list[str]]] = [
    (squared, {}, ["to_server", "ahead"]),
    (residual, {}, ["to_server", "both"]),
    (both_uses, {}, ["both"]),
    (chained, {"v": SECOND}, ["to_server", "to_server"]),
    (viewed, {}, ["to_server", "ahead"]),
]


@pytest.mark.parametrize(("function", "more", "expected"), CASES, ids=[case[0].__name__ for case in CASES])
def test_ways_and_what_they_compute(function: Callable[..., Any], more: dict[str, Any], expected: list[str]) -> None:
    made = build(function, **weights(), **more)
    assert ways(made) == expected
    emulate = Emulator(made)
    with Threads(made) as session:
        for seed in range(3):
            x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
            assert (session.run(x)[0] - emulate(x)[0]).abs().max() < 2e-3


def test_what_is_not_sent_is_not_counted() -> None:
    made = build(squared, **weights())
    first, second = made.messages
    assert first.words(0) == 0 < first.words(1) and second.words(1) == 0 < second.words(0)
    assert made.cost.ahead_bytes == 8 * second.words(0)
    revealed = 8 * made.online.graph.find_nodes(op="call_function", target=online.reveal)[0].meta["val"].numel()
    assert made.cost.bytes == made.cost.busier_bytes == 8 * (first.words(1) + second.words(0)) + revealed


def test_a_way_that_does_not_follow_from_the_graph_is_refused() -> None:
    made = build(both_uses, **weights())
    opened = next(node for node in made.online.graph.nodes if node.target is online.open_)
    annotate(opened, way="to_server")
    with pytest.raises(InvalidGraph, match="travels to_server"):
        structure.verify(made)
