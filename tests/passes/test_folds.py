"""fold_norm_affine, fold_scale, fold_constants, fuse_linear, cse: when they fire, and when not."""

from __future__ import annotations

import pytest
import torch

from mpcc import registry
from tests.models.graphs import calls, changed_by, graph_of, rewritten, shapes

aten = torch.ops.aten
X = (2, 6, 4)
torch.manual_seed(0)
W, B, NW, NB = torch.randn(5, 4), torch.randn(5), torch.randn(4), torch.randn(4)
CONV = torch.randn(6, 2, 3, 3)


def norm_graph(reads, shape=X, **more):  # type: ignore[no-untyped-def]
    """`reads` the result of a layer norm of the last dimension, with scale and shift."""
    return graph_of(
        lambda x, n_weight, n_bias, **p: reads(aten.layer_norm.default(x, [4], n_weight, n_bias), **p),
        {"x": shape},
        n_weight=NW,
        n_bias=NB,
        **more,
    )


NORM_FOLDS = {
    "linear": lambda y, w, b: aten.linear.default(y, w, b),
    "linear without bias": lambda y, w, b: aten.linear.default(y, w),
    "two": lambda y, w, b: aten.add.Tensor(aten.linear.default(y, w, b), aten.linear.default(y, w)),
    "matmul by a weight": lambda y, w, b: aten.matmul.default(y, aten.permute.default(w, [1, 0])),
    "a token": lambda y, w, b: aten.linear.default(aten.select.int(y, 1, 0), w, b),
    "windows": lambda y, w, b: aten.linear.default(
        aten.roll.default(aten.reshape.default(y, [2, 3, 2, 4]), [1], [1]), w, b
    ),
    "mean": lambda y, w, b: aten.linear.default(aten.mean.dim(y, [1]), w, b),
}


@pytest.mark.parametrize("name", NORM_FOLDS)
def test_norm_folds(name: str) -> None:
    after = rewritten(norm_graph(NORM_FOLDS[name], w=W, b=B), "fold_constants", "fold_norm_affine")
    (norm,) = calls(after, aten.layer_norm.default)
    assert norm.args[2] is None and norm.args[3] is None and norm.meta["site"] == "layer.layer_norm"
    assert not calls(after, aten.mul.Tensor)
    assert {"n.weight", "n.bias"}.isdisjoint(dict(after.named_parameters()))


def test_norm_before_flattened_tokens() -> None:
    """Channels repeat in the weight of a layer that reads all tokens at once."""
    graph = norm_graph(lambda y, w: aten.linear.default(aten.reshape.default(y, [2, 24]), w), w=torch.randn(3, 24))
    assert not calls(rewritten(graph, "fold_norm_affine"), aten.mul.Tensor)


def test_norm_with_a_residual() -> None:
    """MPCViT adds the normalised value: the residual gets the affine part, the product does not."""
    graph = norm_graph(lambda y, w: aten.add.Tensor(y, aten.linear.default(y, w)), w=torch.randn(4, 4))
    after = rewritten(graph, "fold_norm_affine")
    (norm,), (scaled,) = calls(after, aten.layer_norm.default), calls(after, aten.mul.Tensor)
    assert scaled.args[0] is norm and calls(after, aten.linear.default)[0].args[0] is norm


def test_norm_not() -> None:
    """No product reads it; the refusal says what does."""
    graph = norm_graph(lambda y: aten.gelu.default(y))
    result = registry.pass_("fold_norm_affine")(graph)
    assert not result.modified
    assert "node gelu_default in layer layer: reads it outside a product" in map(str, result.refusals)


@pytest.mark.parametrize("padding", [0, 1])
def test_norm_before_a_grouped_convolution(padding: int) -> None:
    """Padding makes zeros, which the shift must not reach: then it stays as an added b / w."""

    def function(x, n_weight, n_bias, w):  # type: ignore[no-untyped-def]
        y = aten.group_norm.default(x, 2, n_weight, n_bias)
        return aten.convolution.default(y, w, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 2)

    graph = graph_of(function, {"x": (2, 4, 5, 5)}, n_weight=NW, n_bias=NB, w=CONV)
    after = rewritten(graph, "fold_norm_affine")
    assert not calls(after, aten.mul.Tensor) and len(calls(after, aten.add.Tensor)) == padding


def test_large_shift_before_padding() -> None:
    """b / w would need many more bits than the normalised value."""

    def function(x, n_weight, n_bias, w):  # type: ignore[no-untyped-def]
        y = aten.group_norm.default(x, 2, n_weight, n_bias)
        return aten.convolution.default(y, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 2)

    graph = graph_of(function, {"x": (2, 4, 5, 5)}, n_weight=NW * 1e-4, n_bias=NB, w=CONV)
    assert not changed_by(graph, "fold_norm_affine")


SCALE_FOLDS = {
    "behind": lambda x, w, b, g, h: aten.mul.Tensor(aten.linear.default(x, w, b), h),
    "behind, numbers and views between": lambda x, w, b, g, h: aten.mul.Tensor(
        aten.reshape.default(aten.div.Tensor(aten.linear.default(x, w, b), 3.0), [12, 5]), h
    ),
    "in front": lambda x, w, b, g, h: aten.linear.default(aten.mul.Tensor(g, x), w, b),
    "in front, with a term": lambda x, w, b, g, h: aten.linear.default(aten.add.Tensor(aten.mul.Tensor(x, g), g), w),
    "term behind": lambda x, w, b, g, h: aten.sub.Tensor(aten.linear.default(x, w), h),
    "term behind a number": lambda x, w, b, g, h: aten.add.Tensor(
        aten.mul.Tensor(aten.linear.default(x, w, b), 2.0), h
    ),
    "quotient": lambda x, w, b, g, h: aten.div.Tensor(aten.linear.default(x, w, b), h),
    "both": lambda x, w, b, g, h: aten.mul.Tensor(aten.linear.default(aten.mul.Tensor(x, g), w, b), h),
}
TWO_READERS = {
    "behind": lambda x, w, h: aten.add.Tensor(y := aten.linear.default(x, w), aten.mul.Tensor(y, h)),
    "in front": lambda x, w, h: aten.add.Tensor(y := aten.mul.Tensor(x, w), aten.gelu.default(y)),
    "positions": lambda x, w, h: aten.mul.Tensor(x, aten.reshape.default(w, [6, 4])),
}


@pytest.mark.parametrize("name", SCALE_FOLDS)
def test_scale_folds(name: str) -> None:
    graph = graph_of(SCALE_FOLDS[name], {"x": X}, w=W, b=B, g=torch.randn(4), h=torch.rand(5) + 0.5)
    after = rewritten(graph, "fold_constants", "fold_scale")
    left = [n for n in after.graph.nodes if n.op == "call_function" and len(n.all_input_nodes) > 1]
    assert [n.target for n in left] == [aten.linear.default]


@pytest.mark.parametrize("name", TWO_READERS)
def test_scale_not(name: str) -> None:
    w = {"positions": torch.randn(6, 4), "in front": torch.randn(4)}.get(name, W)
    assert not changed_by(graph_of(TWO_READERS[name], {"x": X}, w=w, h=torch.rand(5) + 0.5), "fold_scale")


def test_scale_into_a_convolution() -> None:
    def function(x, w, g):  # type: ignore[no-untyped-def]
        y = aten.convolution.default(x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 2)
        return aten.mul.Tensor(aten.permute.default(y, [0, 2, 3, 1]), g)

    after = rewritten(graph_of(function, {"x": (2, 4, 5, 5)}, w=CONV, g=torch.randn(6)), "fold_scale")
    assert not calls(after, aten.mul.Tensor)


def test_a_shared_weight_is_not_spoilt() -> None:
    """Two layers read one weight, one of them is scaled."""

    def function(x, w, g):  # type: ignore[no-untyped-def]
        return aten.sub.Tensor(aten.mul.Tensor(aten.linear.default(x, w), g), aten.linear.default(x, w))

    after = rewritten(graph_of(function, {"x": X}, w=W, g=torch.randn(5)), "fold_scale")
    assert sorted(dict(after.named_parameters())) == ["w", "w_2"]


def linears(between, wide: int = 4):  # type: ignore[no-untyped-def]
    def function(x, a, b, c, d):  # type: ignore[no-untyped-def]
        return aten.linear.default(between(aten.linear.default(x, a, b)), c, d)

    parameters = dict(a=torch.randn(wide, 4), b=torch.randn(wide), c=torch.randn(5, wide), d=torch.randn(5))
    return graph_of(function, {"x": X}, **parameters)


@pytest.mark.parametrize(
    "between",
    [
        lambda y: y,
        lambda y: aten.reshape.default(y, [12, 4]),
        lambda y: aten.permute.default(y, [1, 0, 2]),
        lambda y: aten.select.int(aten.reshape.default(y, [2, 2, 3, 4]), 1, 1),
        lambda y: aten.slice.Tensor(y, 1, 1, 3),
    ],
)
def test_fuse(between) -> None:  # type: ignore[no-untyped-def]
    after = rewritten(linears(between), "fuse_linear")
    assert len(calls(after, aten.linear.default)) == 1
    assert dict(after.named_parameters()).keys() == {"c", "d"}


@pytest.mark.parametrize(
    ("between", "wide"),
    [
        (lambda y: y, 2),  # a bottleneck: 4 x 5 is more than 2 x (4 + 5)
        (lambda y: aten.gelu.default(y), 4),
        (lambda y: aten.permute.default(aten.reshape.default(y, [2, 4, 6]), [0, 2, 1]), 4),
        (lambda y: aten.add.Tensor(y, 1.0), 4),
    ],
)
def test_fuse_not(between, wide: int) -> None:  # type: ignore[no-untyped-def]
    assert not changed_by(linears(between, wide), "fuse_linear")


def test_fuse_three() -> None:
    def function(x, a, b, c):  # type: ignore[no-untyped-def]
        return aten.linear.default(aten.linear.default(aten.linear.default(x, a), b), c)

    graph = graph_of(function, {"x": X}, **{k: torch.randn(4, 4) for k in "abc"})
    assert len(calls(rewritten(graph, "fuse_linear"), aten.linear.default)) == 1


def test_constants_fold() -> None:
    """The position table is indexed and stays a view; what is computed from it becomes a parameter."""

    def function(x, p, i, q):  # type: ignore[no-untyped-def]
        return aten.add.Tensor(aten.mul.Tensor(x, aten.exp.default(aten.add.Tensor(q, 1.0))), aten.index.Tensor(p, [i]))

    graph = graph_of(function, {"x": X}, p=torch.randn(2, 4), i=torch.tensor([0, 1, 1, 0, 1, 1]), q=torch.randn(4))
    after = rewritten(graph, "fold_constants")
    assert not calls(after, aten.exp.default) and calls(after, aten.index.Tensor)
    assert {name: p.requires_grad for name, p in after.named_parameters()} == {"p": True, "q_exp_default": True}


def test_constants_not() -> None:
    c = torch.randn(1, 1, 4)
    graph = graph_of(lambda x, c: aten.add.Tensor(x, aten.expand.default(c, [2, 6, 4])), {"x": X}, c=c)
    assert not changed_by(graph, "fold_constants")


def test_cse() -> None:
    def function(x):  # type: ignore[no-untyped-def]
        a, b = aten.gelu.default(x), aten.gelu.default(aten.reshape.default(x, [2, 6, 4]))
        return aten.sub.Tensor(aten.add.Tensor(a, x), aten.mul.Tensor(aten.add.Tensor(x, b), 3.0))

    after = rewritten(graph_of(function, {"x": X}), "cse")
    assert len(calls(after, aten.gelu.default)) == len(calls(after, aten.add.Tensor)) == 1
    assert not calls(after, aten.reshape.default)


def test_cse_not() -> None:
    """1 and 1.0 and True differ, and so do the orders of a difference."""

    def function(x):  # type: ignore[no-untyped-def]
        y = aten.gelu.default(x)
        return aten.mul.Tensor(aten.sub.Tensor(x, y), aten.sub.Tensor(y, x))

    assert not changed_by(graph_of(function, {"x": X}), "cse")
    assert shapes(graph_of(function, {"x": X}), aten.sub.Tensor) == [X, X]


@pytest.mark.parametrize("operand", [0, 1])
def test_a_trained_temperature_goes_through_a_matrix_product(operand: int) -> None:
    """Into whichever of the two operands a layer makes."""

    def scores(x, w, t):  # type: ignore[no-untyped-def]
        pair = [x, x]
        pair[operand] = aten.linear.default(x, w)
        return aten.mul.Tensor(aten.matmul.default(pair[0], aten.permute.default(pair[1], [0, 2, 1])), t)

    graph = graph_of(scores, {"x": X}, w=torch.randn(4, 4), t=torch.tensor(1.618))
    assert not calls(rewritten(graph, "fold_scale"), aten.mul.Tensor)


def test_a_factor_for_each_head_does_not_go_through_a_matrix_product() -> None:
    def scores(x, w, t):  # type: ignore[no-untyped-def]
        y = aten.linear.default(x, w)
        return aten.mul.Tensor(aten.matmul.default(y, aten.permute.default(x, [0, 2, 1])), t)

    graph = graph_of(scores, {"x": X}, w=torch.randn(4, 4), t=torch.rand(2, 1, 1))
    assert calls(rewritten(graph, "fold_scale"), aten.mul.Tensor)
