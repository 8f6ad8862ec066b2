"""The passes of the mpc level: when they fire, and when not."""

from __future__ import annotations

import pytest
import torch

from mpcc.ir import mpc
from tests.models.graphs import calls, changed_by, graph_of, rewritten, shapes

aten = torch.ops.aten
E, R, V = (2, 3, 7, 9), (2, 3, 7, 1), (2, 3, 9, 4)  # exponentials, one factor a row, values
ERV = {"e": E, "r": R, "v": V}
W, B = torch.randn(5, 9), torch.randn(5)
torch.manual_seed(0)


# ------------------------------------------------------------------------------------------- divide_after_matmul

DIVIDES = {
    "plain": lambda e, r, v: mpc.matmul(mpc.mul(e, r), v),
    "factor first": lambda e, r, v: mpc.matmul(mpc.mul(r, e), v),
    "scale": lambda e, r, v: mpc.matmul(mpc.scale(mpc.mul(e, r), 0.25), v),
    "views": lambda e, r, v: mpc.matmul(
        aten.permute.default(aten.reshape.default(mpc.mul(e, r), [6, 7, 9]), [0, 1, 2]),
        aten.reshape.default(v, [6, 9, 4]),
    ),
    "tokens first": lambda e, r, v: mpc.matmul(
        aten.permute.default(mpc.mul(e, r), [0, 2, 1, 3]), aten.reshape.default(v, [2, 3, 9, 4])[:, :1]
    ),
    "two factors": lambda e, r, v: mpc.matmul(mpc.mul(mpc.mul(e, r), mpc.square(r)), v),
    "two readers": lambda e, r, v: mpc.add(
        mpc.matmul(y := mpc.mul(e, r), v), mpc.matmul(mpc.scale(y, 2.0), mpc.scale(v, 0.5))
    ),
}


@pytest.mark.parametrize("name", DIVIDES)
def test_divides_after_the_product(name: str) -> None:
    after = rewritten(graph_of(DIVIDES[name], ERV), "divide_after_matmul")
    assert all(shape[-1] == 4 for shape in shapes(after, mpc.mul))
    assert all(n.meta["made_by"] == ("divide_after_matmul",) for n in calls(after, mpc.mul))


def test_divides_after_a_linear_layer() -> None:
    """The bias comes behind the factor."""
    graph = graph_of(lambda e, r, w, b: mpc.linear(mpc.mul(e, r), w, b), {"e": E, "r": R}, w=W, b=B)
    after = rewritten(graph, "divide_after_matmul")
    assert shapes(after, mpc.mul) == [(2, 3, 7, 5)] and len(calls(after, mpc.add)) == 1
    assert calls(after, mpc.linear)[0].args[2:] == ()


DIVIDES_NOT = {
    "bigger behind": lambda e, r, v: mpc.matmul(mpc.mul(e, r), aten.cat.default([v, v, v], 3)),
    "read elsewhere": lambda e, r, v: mpc.add(mpc.matmul(y := mpc.mul(e, r), v), mpc.sum(y, (3,), True)),
    "right operand": lambda e, r, v: mpc.matmul(aten.permute.default(e, [0, 1, 3, 2]), mpc.mul(e, r)),
    "factor a column": lambda e, r, v: mpc.matmul(mpc.mul(e, mpc.sum(e, (2,), True)), v),
    "no factor": lambda e, r, v: mpc.matmul(mpc.mul(e, e), v),
    "mixed": lambda e, r, v: mpc.matmul(aten.permute.default(mpc.mul(e, r), [0, 1, 3, 2]), mpc.matmul(e, v)),
    "not linear": lambda e, r, v: mpc.matmul(mpc.square(mpc.mul(e, r)), v),
}


@pytest.mark.parametrize("name", DIVIDES_NOT)
def test_divides_not(name: str) -> None:
    assert not changed_by(graph_of(DIVIDES_NOT[name], ERV), "divide_after_matmul")


# --------------------------------------------------------------------------------------------------- centre_keys


def centred(x):  # type: ignore[no-untyped-def]
    return mpc.sub(x, mpc.mean(x, (-1,), True))


QK = {"q": (2, 3, 7, 4), "k": (2, 3, 9, 4)}


def scores(q, k):  # type: ignore[no-untyped-def]
    return mpc.matmul(q, aten.permute.default(k, [0, 1, 3, 2]))


CENTRES = {
    "scores": lambda q, k, m: centred(scores(q, k)),
    "scaled": lambda q, k, m: centred(mpc.scale(scores(q, k), 0.5)),
    "bias": lambda q, k, m: centred(mpc.add(mpc.scale(scores(q, k), 0.5), m)),
    "a bias for all keys": lambda q, k, m: centred(mpc.add(scores(q, k), aten.slice.Tensor(m, 2, 0, 1))),
    "windows": lambda q, k, m: centred(aten.reshape.default(scores(q, k), [6, 7, 9])),
}
CENTRES_NOT = {
    "queries": lambda q, k, m: mpc.sub(x := scores(q, k), mpc.mean(x, (2,), True)),
    "another mean": lambda q, k, m: mpc.sub(x := scores(q, k), mpc.mean(mpc.scale(x, 2.0), (3,), True)),
    "a sum": lambda q, k, m: mpc.sub(x := scores(q, k), mpc.sum(x, (3,), True)),
    "not linear": lambda q, k, m: centred(mpc.square(scores(q, k))),
    "queries as columns": lambda q, k, m: centred(aten.permute.default(scores(q, k), [0, 1, 3, 2])),
}


@pytest.mark.parametrize("name", CENTRES)
def test_centres_the_keys(name: str) -> None:
    after = rewritten(graph_of(CENTRES[name], QK, m=torch.randn(3, 7, 9)), "centre_keys", "fold_constants_mpc")
    assert shapes(after, mpc.sub) == [(2, 3, 4, 9)]


@pytest.mark.parametrize("name", CENTRES_NOT)
def test_centres_not(name: str) -> None:
    assert not changed_by(graph_of(CENTRES_NOT[name], QK, m=torch.randn(3, 7, 9)), "centre_keys")


# ------------------------------------------------------------------------------------------ reassociate_attention

QKV = {"q": (2, 9, 4), "k": (2, 4, 9), "v": (2, 9, 5)}


@pytest.mark.parametrize("between", [lambda s: s, lambda s: mpc.scale(mpc.scale(s, 0.5), 1 / 9)])
def test_reassociates(between) -> None:  # type: ignore[no-untyped-def]
    graph = graph_of(lambda q, k, v: mpc.matmul(between(mpc.matmul(q, k)), v), QKV)
    after = rewritten(graph, "reassociate_attention")
    assert shapes(after, mpc.matmul) == [(2, 4, 5), (2, 9, 5)]
    assert len(calls(after, mpc.scale)) <= 1


@pytest.mark.parametrize(
    ("function", "shapes_"),
    [
        (lambda q, k, v: mpc.matmul(mpc.square(mpc.matmul(q, k)), v), QKV),
        (lambda q, k, v: mpc.add(mpc.matmul(s := mpc.matmul(q, k), v), mpc.sum(s, (2,), True)), QKV),
        (
            lambda q, k, v: mpc.matmul(mpc.matmul(q, k), v),
            {"q": (2, 1, 4), "k": (2, 4, 9), "v": (2, 9, 4)},
        ),  # one token
        (lambda q, k, v: mpc.matmul(mpc.matmul(q, k), v), {"q": (2, 9, 8), "k": (2, 8, 9), "v": (9, 5)}),
    ],
)
def test_reassociates_not(function, shapes_) -> None:  # type: ignore[no-untyped-def]
    assert not changed_by(graph_of(function, shapes_), "reassociate_attention")


# --------------------------------------------------------------------------------------- cse and constants


def test_cse_opens_once() -> None:
    def function(e, r, v):  # type: ignore[no-untyped-def]
        a, b = mpc.mul(e, r), mpc.mul(r, e)
        return mpc.add(mpc.matmul(a, v), mpc.matmul(mpc.scale(b, 2.0), v))

    after = rewritten(graph_of(function, ERV), "cse_mpc")
    assert len(calls(after, mpc.mul)) == 1 and len(calls(after, mpc.matmul)) == 2


def test_cse_mpc_not() -> None:
    def function(e):  # type: ignore[no-untyped-def]
        return mpc.mul(mpc.polynomial(e, (0.0, 1.0, 2.0)), mpc.polynomial(e, (0.0, 1.0, 2.5)))

    assert not changed_by(graph_of(function, {"e": E}), "cse_mpc")


def test_products_of_weights_fold() -> None:
    """The scale of a weight and its views stay."""

    def function(e, w, g):  # type: ignore[no-untyped-def]
        return mpc.linear(mpc.mul(e, mpc.scale(g, 0.5)), mpc.mul(w, aten.reshape.default(g, [1, 9])))

    after = rewritten(graph_of(function, {"e": E}, w=W, g=torch.randn(9)), "fold_constants_mpc")
    assert len(calls(after, mpc.mul)) == 1 and len(calls(after, mpc.scale)) == 1
    assert dict(after.named_parameters()).keys() == {"g", "w_mul_1"}
    assert not changed_by(after, "fold_constants_mpc")
