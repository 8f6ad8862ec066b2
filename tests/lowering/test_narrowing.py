"""Values that products use whole are cut for good: where that cannot fail, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from mpcc.ir import mpc, online
from mpcc.lowering import Settings, lower, scales
from mpcc.lowering.lower import Lowering
from mpcc.lowering.narrowing import Tried
from mpcc.lowering.widths import excess, needed_bits
from mpcc.program import Program
from mpcc.program.layout import ring_of
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import SHAPE, Threads, graph_of

aten = torch.ops.aten
EXACT = Settings(answers=0)
GENERATOR = torch.Generator().manual_seed(7)
WEIGHTS = {name: torch.randn(16, 16, generator=GENERATOR) / 4 for name in ("w", "v", "u")}


def attention(x: Any, w: Any, v: Any, u: Any) -> Any:
    """Two layers, the product of their results, squared: what lies before the square is right modulo fewer bits."""
    q, k = mpc.linear(x, w, None), mpc.linear(x, v, None)
    return mpc.square(mpc.scale(mpc.matmul(q, aten.permute.default(k, (0, 2, 1))), 0.25))


def stream(x: Any, w: Any, v: Any, u: Any) -> Any:
    """A residual stream that two layers write to and a polynomial reads."""
    y = mpc.linear(mpc.square(x), w, None)
    z = mpc.add(y, mpc.linear(mpc.mul(y, x), v, None))
    return mpc.polynomial(z, (0.5, 0.25, 0.125))


def half_linear(x: Any, w: Any, v: Any, u: Any) -> Any:
    """A value in a product and in a sum beside its own square, which opens it: it is lifted there, for nothing."""
    y = mpc.linear(mpc.square(x), w, None)
    return mpc.square(mpc.linear(mpc.add(mpc.scale(y, 0.5), mpc.square(y)), v, None))


def chosen(x: Any, w: Any, v: Any, u: Any) -> Any:
    """A selected value of few bits."""
    y = mpc.linear(mpc.square(x), w, None)
    return mpc.square(mpc.linear(mpc.mul(mpc.less(y, 0.1), y), v, None))


def revealed(x: Any, w: Any, v: Any, u: Any) -> Any:
    """The output needs all bits, and with it what the layer reads."""
    return mpc.linear(mpc.square(x), w, None)


FUNCTIONS: list[Callable[..., Any]] = [attention, stream, half_linear, chosen, revealed]


def made(function: Callable[..., Any], settings: Settings = EXACT, **weights: Tensor) -> Program:
    return lower(graph_of(function, SHAPE, **(WEIGHTS | weights)), settings)


def right(program: Program) -> Mapping[Any, int]:
    """How many bits each cut is short of, given only what follows: openings are as wide as they are."""
    magnitudes = {node: float(ring_of(node) - 3) for node in program.online.graph.nodes if node.target is online.open_}
    needed = needed_bits(program.online.graph, magnitudes)
    return {node: excess(node, needed) for node in program.online.graph.nodes if node.target is online.truncate_locally}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_cut_is_right_where_no_failure_is_stated(function: Callable[..., Any]) -> None:
    program = made(function)
    assert program.failures or max(right(program).values(), default=0) <= 0


@pytest.mark.parametrize("function", FUNCTIONS)
def test_parties_and_emulation_agree(function: Callable[..., Any]) -> None:
    """At inputs of calibration's size and at twice its extremes, with shares drawn anew each time."""
    program = made(function)
    emulate = Emulator(program)
    with Threads(program) as session:
        for seed in range(4):
            x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * (1 if seed else 1.2)
            expected = emulate(x)[0]
            far = (session.run(x)[0] - expected).abs().max()
            flips = function is chosen  # a value near the threshold may be taken for one beyond it
            assert far < (0.3 if flips else 4e-3) * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("function", "fewer"), [(attention, True), (stream, True), (revealed, False)])
def test_what_is_lifted_later_is_opened_in_fewer_bits(
    function: Callable[..., Any], fewer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = made(function).cost
    monkeypatch.setitem(Lowering.run.__globals__, "narrowed", lambda *_: {})
    before = made(function).cost
    assert after.rounds <= before.rounds
    assert after.bytes < before.bytes if fewer else after.bytes == before.bytes


def test_a_cut_that_takes_bits_which_are_needed_is_found() -> None:
    """The same analysis that says no says which value has to keep its bits, and lowering then ends without a failure."""
    weights = {name: value * 2.0**6 for name, value in WEIGHTS.items()}
    graph = graph_of(attention, SHAPE, **weights)
    program = lower(graph, EXACT)
    assert program.failures or max(right(program).values(), default=0) <= 0
    tried = Tried()
    tried.learn({"near": 1, "far": 9})
    assert (tried.coarse, tried.kept) == ({"near"}, {"far"})
    tried.learn({"near": 1})
    assert "near" in tried.kept


def centred(x: Any, w: Any) -> Any:
    """Rows times a factor of each, less their means, in a sum with a layer of them: a post-norm block's residual stream."""
    factor = mpc.polynomial(mpc.sum(x, (2,), True), (1.0, 0.01, 0.01))
    row = mpc.mul(x, factor)
    mean = mpc.scale(mpc.sum(row, (2,), True), 1 / 48)
    middle = mpc.sub(row, mean)
    stream = mpc.add(middle, mpc.linear(mpc.square(x), w, None))
    q, k = mpc.linear(stream, w, None), mpc.linear(stream, w, None)
    return mpc.square(mpc.scale(mpc.matmul(q, aten.permute.default(k, (0, 2, 1))), 0.25))


def test_a_mean_is_brought_to_the_scale_of_its_rows_where_they_would_be_opened_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, strict = (1, 16, 48), Settings(answers=0, failure_budget=1e-15)
    graph = graph_of(centred, shape, w=torch.randn(48, 48, generator=torch.Generator().manual_seed(3)) / 7)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    made = lower(graph, strict)
    few = Emulator(made)(x)[0]
    monkeypatch.setattr(scales, "FEW", 1 << 20)
    all_finer = lower(graph, strict)
    assert made.cost.bytes < all_finer.cost.bytes and made.cost.rounds <= all_finer.cost.rounds
    assert (few - graph(x)).abs().max() < 2e-3 * graph(x).abs().max()
