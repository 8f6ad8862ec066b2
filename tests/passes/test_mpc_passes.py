"""The passes of the mpc level: when they fire, and when not."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mpcc.ir import mpc
from mpcc.rewrite.depth import depths
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


LATE = {
    "a layer that is wider": lambda e, w, b: mpc.linear(mpc.mul(e, late(e)), w, b),
    "one token": lambda e, w, b: mpc.linear(aten.slice.Tensor(mpc.mul(e, late(e)), 2, 0, 1), w, b),
    "beside another reader": lambda e, w, b: mpc.add(
        mpc.sum(mpc.linear(y := mpc.mul(e, late(e)), w, b), (3,), True), mpc.sum(mpc.square(y), (3,), True)
    ),
    "a weight": lambda e, w, b: mpc.square(mpc.mul(mpc.mul(e, late(e)), aten.select.int(w, 0, 0))),
}


def late(e):  # type: ignore[no-untyped-def]
    """A factor per row that is computed from e."""
    return mpc.polynomial(mpc.mean(mpc.square(e), (3,), True), (1.0, 0.5, 0.25))


@pytest.mark.parametrize("name", LATE)
def test_what_waits_for_a_factor_does_not(name: str) -> None:
    """A factor that is ready later than what it multiplies moves even where the result is bigger, or something else reads it."""
    graph = graph_of(LATE[name], {"e": E}, w=torch.randn(20, 9), b=torch.randn(20))
    before, after = depths(graph.graph), rewritten(graph, "divide_after_matmul")
    assert max(depths(after.graph).values()) == max(before.values()) - (name != "beside another reader")
    assert all(depths(after.graph)[n.all_input_nodes[0]] == 0 for n in calls(after, mpc.linear))


# ------------------------------------------------------------------------------------------ factors_after_scores

NORMED = {"x": (2, 7, 12), "y": (2, 9, 12)}
HEADS = {name: torch.randn(*shape) / 3 for name, shape in {"wq": (8, 12), "bq": (8,), "wk": (8, 12), "bk": (8,)}.items()}


def normed(x):  # type: ignore[no-untyped-def]
    return mpc.mul(x, mpc.polynomial(mpc.mean(mpc.square(x), (2,), True), (1.0, 0.1, 0.01)))


def heads(x):  # type: ignore[no-untyped-def]
    return aten.permute.default(aten.reshape.default(x, [2, x.shape[1], 2, 4]), [0, 2, 1, 3])


def attention(x, y, wq, bq, wk, bk, *, centre):  # type: ignore[no-untyped-def]
    """Two heads; keys of another input, whose factors are others."""
    q, k = heads(mpc.linear(normed(x), wq, bq)), heads(mpc.linear(normed(y), wk, bk))
    found = mpc.scale(mpc.matmul(q, aten.permute.default(k, [0, 1, 3, 2])), 0.5)
    return mpc.square(mpc.sub(found, mpc.mean(found, (3,), True)) if centre else found)


@pytest.mark.parametrize("centre", [True, False])
def test_scores_do_not_wait_for_the_factors(centre: bool) -> None:
    """What the keys' bias adds is left out where the mean is taken off, and kept elsewhere."""
    graph = graph_of(partial(attention, centre=centre), NORMED, **HEADS)
    after = rewritten(graph, "divide_after_matmul", "factors_after_scores")
    assert max(depths(after.graph).values()) == max(depths(graph.graph).values()) - 1  # two where both factors are taken at once
    assert [s for s in shapes(after, mpc.matmul) if s == (2, 2, 7, 9)] == [(2, 2, 7, 9)]
    assert ("bk_row" in dict(after.named_parameters())) is not centre


SCORES_NOT = {
    "early factors": lambda x, y: mpc.matmul(mpc.mul(mpc.square(x), mpc.sum(x, (2,), True)), aten.permute.default(y, [0, 2, 1])),
    "a factor a channel": lambda x, y: mpc.matmul(mpc.mul(x, mpc.sum(x, (1,), True)), aten.permute.default(y, [0, 2, 1])),
    "a factor of the summed rows": lambda x, y: mpc.matmul(aten.permute.default(normed(x), [0, 2, 1]), x),
}


@pytest.mark.parametrize("name", SCORES_NOT)
def test_scores_stay(name: str) -> None:
    assert not changed_by(graph_of(SCORES_NOT[name], NORMED), "factors_after_scores")


# ------------------------------------------------------------------------------------------------ centre_writers


def off(x, dim=2):  # type: ignore[no-untyped-def]
    return mpc.square(mpc.sub(x, mpc.mean(x, (dim,), True)))


STREAM = {"a": (2, 7, 12), "o": (2, 7, 8)}
WRITERS = {"w": torch.randn(12, 8), "b": torch.randn(12), "p": torch.randn(1, 7, 12)}
CENTRES_WRITERS = {
    "a layer": lambda a, o, w, b, p: off(mpc.linear(o, w, b)),
    "a parameter and a layer": lambda a, o, w, b, p: off(mpc.add(mpc.linear(o, w), p)),
    "a stream of two readers": lambda a, o, w, b, p: mpc.add(
        off(x := mpc.add(mpc.linear(o, w, b), p)), off(mpc.sub(x, mpc.linear(mpc.square(o), w)))
    ),
    "views": lambda a, o, w, b, p: off(aten.slice.Tensor(aten.cat.default([
        aten.expand.default(aten.slice.Tensor(p, 1, 0, 1), [2, 1, 12]), mpc.scale(mpc.linear(o, w, b), 0.5)], 1), 1, 0, 3)),
    "a number": lambda a, o, w, b, p: off(mpc.add(mpc.linear(o, w, b), 3.0)),
}  # fmt: skip
CENTRES_WRITERS_NOT = {
    "no weights": lambda a, o, w, b, p: off(mpc.add(a, mpc.square(a))),
    "read as it is too": lambda a, o, w, b, p: mpc.add(off(x := mpc.linear(o, w, b)), x),
    "another dimension": lambda a, o, w, b, p: off(mpc.linear(o, w, b), 1),
}


@pytest.mark.parametrize("name", CENTRES_WRITERS)
def test_writers_are_centred(name: str) -> None:
    after = rewritten(graph_of(CENTRES_WRITERS[name], STREAM, **WRITERS), "centre_writers")
    assert calls(after, mpc.sum) == []


@pytest.mark.parametrize("name", CENTRES_WRITERS_NOT)
def test_writers_stay(name: str) -> None:
    assert not changed_by(graph_of(CENTRES_WRITERS_NOT[name], STREAM, **WRITERS), "centre_writers")


def test_what_no_weights_write_keeps_its_mean() -> None:
    graph = graph_of(lambda a, o, w, b, p: off(mpc.add(a, mpc.linear(o, w, b))), STREAM, **WRITERS)
    after = rewritten(graph, "centre_writers")
    assert [n.args[0].name for n in calls(after, mpc.sum)] == ["a"]  # type: ignore[union-attr]


def test_a_convolution_is_centred_over_its_channels() -> None:
    """As patches are embedded: channels first, tokens made of the other dimensions."""

    def patches(x, w, b):  # type: ignore[no-untyped-def]
        y = mpc.conv(x, w, b, (2, 2), (0, 0), (1, 1), 1)
        return off(aten.permute.default(aten.reshape.default(y, [1, 12, 4]), [0, 2, 1]))

    after = rewritten(graph_of(patches, {"x": (1, 3, 4, 4)}, w=torch.randn(12, 3, 2, 2), b=torch.randn(12)), "centre_writers")
    assert calls(after, mpc.sum) == []


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
