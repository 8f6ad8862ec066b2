"""slice_early: how far a slice moves, and what keeps it."""

from __future__ import annotations

import pytest
import torch

from tests.models.graphs import calls, changed_by, graph_of, rewritten, shapes

aten = torch.ops.aten
X = (2, 6, 4)
W, B = torch.randn(4, 4), torch.randn(4)

# Operators on x [2, 6, 4] that give 6 tokens; the slice moves to x.
MOVES = {
    "gelu": lambda x: aten.gelu.default(x),
    "softmax of channels": lambda x: aten.softmax.int(x, -1),
    "layer norm": lambda x: aten.layer_norm.default(x, [4]),
    "rms norm": lambda x: aten.rms_norm.default(x, [4]),
    "number": lambda x: aten.mul.Tensor(aten.add.Tensor(x, 1.5), 2.0),
    "power": lambda x: aten.pow.Tensor_Scalar(x, 2),
    "mean of channels": lambda x: aten.mean.dim(x, [2]),
    "sum of batch": lambda x: aten.reshape.default(aten.sum.dim_IntList(x, [0], True), [1, 6, 4]),
    "rows of a product": lambda x: aten.matmul.default(x, aten.permute.default(x, [0, 2, 1])),
    "padded channels": lambda x: aten.constant_pad_nd.default(x, [1, 1]),
    "rolled channels": lambda x: aten.roll.default(x, [1], [2]),
    "flipped channels": lambda x: aten.flip.default(x, [-1]),
    "slice of channels": lambda x: aten.gelu.default(aten.slice.Tensor(x, 2, 1, 3)),
    "merged heads": lambda x: aten.reshape.default(
        aten.permute.default(aten.reshape.default(x, [2, 6, 2, 2]), [0, 1, 3, 2]), [2, 6, 4]
    ),
    "flat tokens": lambda x: aten.reshape.default(aten.gelu.default(aten.reshape.default(x, [2, 24])), [2, 6, 4]),
    "repeated": lambda x: aten.expand.default(aten.reshape.default(aten.mean.dim(x, [1]), [2, 1, 4]), [2, 6, 4]),
    "beside itself": lambda x: aten.cat.default([aten.gelu.default(x), x], 2),
}
# A slice stays behind these.
STAYS = {
    "softmax of tokens": lambda x: aten.softmax.int(x, 1),
    "norm of tokens": lambda x: aten.layer_norm.default(x, [6, 4]),
    "group norm": lambda x: aten.group_norm.default(x, 2),
    "rolled tokens": lambda x: aten.roll.default(x, [1], [1]),
    "flipped tokens": lambda x: aten.flip.default(x, [1]),
    "padded tokens": lambda x: aten.constant_pad_nd.default(x, [0, 0, 1, 1]),
    "mixed": lambda x: aten.reshape.default(aten.permute.default(x, [0, 2, 1]), [2, 6, 4]),
}


def first_token(function, index: int = 0):  # type: ignore[no-untyped-def]
    return graph_of(lambda x: aten.select.int(function(x), 1, index), {"x": X})


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("index", [0, -1])
def test_moves(name: str, index: int) -> None:
    after = rewritten(first_token(MOVES[name], index), "slice_early")
    sizes = {n: n.meta["val"].shape for n in after.graph.nodes if n.op == "call_function"}
    big = [n for n, size in sizes.items() if len(size) > 2 and size[1] == 6]
    assert len(big) == (name == "slice of channels"), big  # which then is in front of the other slice


@pytest.mark.parametrize("name", STAYS)
def test_stays(name: str) -> None:
    assert not changed_by(first_token(STAYS[name]), "slice_early")


def test_read_whole() -> None:
    """Another reader needs all tokens."""
    graph = graph_of(
        lambda x: aten.add.Tensor(aten.select.int(y := aten.gelu.default(x), 1, 0), aten.mean.dim(y, [1])), {"x": X}
    )
    assert not changed_by(graph, "slice_early")


def test_slices_that_need_all() -> None:
    """A rotary embedding reads both halves."""

    def halves(x):  # type: ignore[no-untyped-def]
        y = aten.gelu.default(x)
        return aten.cat.default([aten.neg.default(aten.slice.Tensor(y, 1, 3, 6)), aten.slice.Tensor(y, 1, 0, 3)], 1)

    assert not changed_by(graph_of(halves, {"x": X}), "slice_early")


def test_two_tokens() -> None:
    """The class and the distillation token: the part that spans them is computed."""
    graph = graph_of(
        lambda x: aten.sub.Tensor(aten.select.int(y := aten.gelu.default(x), 1, 1), aten.select.int(y, 1, 2)), {"x": X}
    )
    after = rewritten(graph, "slice_early")
    assert shapes(after, aten.gelu.default) == [(2, 2, 4)]


def test_cat_of_the_class_token() -> None:
    """The first of the joined tokens is read: the others need not be there."""
    graph = graph_of(
        lambda x, c: aten.select.int(aten.cat.default([aten.expand.default(c, [2, 1, 4]), x], 1), 1, 0),
        {"x": X},
        c=torch.randn(1, 1, 4),
    )
    assert not calls(rewritten(graph, "slice_early"), aten.cat.default)


def test_the_site_keeps_its_name() -> None:
    after = rewritten(first_token(MOVES["gelu"]), "slice_early")
    (gelu,) = calls(after, aten.gelu.default)
    assert gelu.meta["site"] == "layer.gelu" and gelu.meta["made_by"] == ("slice_early",)
    assert all("site" not in n.meta for n in calls(after, aten.slice.Tensor))


def test_attention() -> None:
    """After the scores only the class token is left; keys and values stay whole."""

    def function(x, q, k, v):  # type: ignore[no-untyped-def]
        query, key, value = (aten.linear.default(x, w) for w in (q, k, v))
        scores = aten.softmax.int(aten.matmul.default(query, aten.permute.default(key, [0, 2, 1])), -1)
        return aten.select.int(aten.add.Tensor(x, aten.matmul.default(scores, value)), 1, 0)

    after = rewritten(graph_of(function, {"x": X}, q=W, k=W + 1, v=W - 1), "slice_early")
    assert shapes(after, aten.linear.default) == [(2, 1, 4), (2, 6, 4), (2, 6, 4)]
    assert shapes(after, aten.softmax.int) == [(2, 1, 6)]
