"""merge_linear: sums of layers of one value become one layer, exactly, and stay apart where they are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mpcc.ir.nn import PUBLIC
from tests.models.graphs import calls, graph_of, rewritten

aten = torch.ops.aten
X = (2, 6, 8)
torch.manual_seed(0)
W, B, DOWN, DOWN_BIAS, UP, UP_BIAS = (torch.randn(*shape) for shape in ((5, 8), (5,), (3, 8), (3,), (5, 3), (5,)))
GIVEN = {"w": W, "b": B, "aw": DOWN, "ab": DOWN_BIAS, "cw": UP, "cb": UP_BIAS}
linear = aten.linear.default


def adapter(x: Any, aw: Any, cw: Any, *biases: Any) -> Any:
    return linear(linear(x, aw, *biases[:1]), cw, *biases[1:])


Reads = Callable[..., Any]
MERGED: dict[str, Reads] = {
    "two layers": lambda x, w, b, **p: aten.add.Tensor(linear(x, w, b), linear(x, w)),
    "an adapter": lambda x, w, b, aw, cw, **p: aten.add.Tensor(linear(x, w, b), adapter(x, aw, cw)),
    "an adapter first": lambda x, w, b, aw, cw, **p: aten.add.Tensor(adapter(x, aw, cw), linear(x, w, b)),
    "one with factors": lambda x, w, b, aw, cw, **p: aten.add.Tensor(
        linear(x, w, b), aten.div.Tensor(aten.mul.Tensor(adapter(x, aw, cw), 6.0), 4.0)
    ),
    "one with biases, of a layer without": lambda x, w, b, aw, ab, cw, cb: aten.add.Tensor(
        linear(x, w), adapter(x, aw, cw, ab, cb)
    ),
}
APART: dict[str, Reads] = {
    "different values": lambda x, w, b, **p: aten.add.Tensor(linear(x, w, b), linear(aten.relu.default(x), w)),
    "an activation between": lambda x, w, b, aw, cw, **p: aten.add.Tensor(
        linear(x, w, b), linear(aten.relu.default(linear(x, aw)), cw)
    ),
    "two adapters": lambda x, w, b, aw, cw, **p: aten.add.Tensor(adapter(x, aw, cw), adapter(x, aw, cw)),
}


def made(reads: Reads) -> Any:
    return graph_of(reads, {"x": X}, **GIVEN)


@pytest.mark.parametrize("name", MERGED)
def test_one_layer_is_left(name: str) -> None:
    before, x = made(MERGED[name]), torch.randn(*X)
    after = rewritten(made(MERGED[name]), "merge_linear")
    assert len(calls(after, linear)) == 1 and not calls(after, aten.add.Tensor)
    torch.testing.assert_close(after(x), before(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", APART)
def test_what_is_no_one_layer_stays(name: str) -> None:
    after = rewritten(made(APART[name]), "merge_linear")
    assert calls(after, aten.add.Tensor)


def test_a_layer_that_others_read_stays() -> None:
    def reads(x: Any, w: Any, b: Any, **p: Any) -> Any:
        first = linear(x, w, b)
        return aten.mul.Tensor(aten.add.Tensor(first, linear(x, w)), first)

    assert len(calls(rewritten(made(reads), "merge_linear"), linear)) == 2


@pytest.mark.parametrize("public", [("w", "b", "aw", "cw"), ("w", "b"), ()])
def test_the_sum_is_public_only_where_all_of_it_is(public: tuple[str, ...]) -> None:
    graph = made(MERGED["an adapter"])
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            node.meta[PUBLIC] = node.name in public or str(node.target) in public
    (layer,) = calls(rewritten(graph, "merge_linear"), linear)
    assert [bool(one.meta.get(PUBLIC)) for one in layer.args[1:]] == [len(public) == 4] * 2
