"""What every exact rewrite keeps: the function, the rules of its level, site names, provenance; it is idempotent."""

from __future__ import annotations

import copy
from functools import cache

import pytest
from torch import fx

from mpcc import registry
from mpcc.approximate import Approximation, Choice, Plan
from mpcc.approximate.expand import expand
from mpcc.frontend import capture
from mpcc.ir import mpc
from mpcc.ir.nn import sites, verify
from tests.models.graphs import assert_same
from tests.models.pass_models import MODELS, model

NN_ORDER = (
    "fold_constants",
    "cse",
    "split_projection",
    "slice_early",
    "fold_scale",
    "fuse_linear",
    "fold_norm_affine",
    "slice_early",  # again: the affine part of a norm that was left for a residual
    "split_masks",
)
MPC_ORDER = (
    "separate_parts",
    "fuse_linear_mpc",
    "centre_keys",
    "divide_after_matmul",
    "reassociate_attention",
    "cse_mpc",
    "fold_constants_mpc",
)
NN_PASSES = [name for name, p in registry.passes().items() if p.graph == "nn"]
MPC_PASSES = [name for name, p in registry.passes().items() if p.graph == "mpc"]
OPTIONAL = {"divide_late"}


@cache
def captured(name: str) -> fx.GraphModule:
    module, x = model(name)
    return capture(module, x)


def _softmax(x, dim):  # type: ignore[no-untyped-def]
    """Any shape will do here: centred, a positive polynomial, divided by a factor per row."""
    centred = mpc.sub(x, mpc.mean(x, (dim % len(x.shape),), True))
    e = mpc.square(mpc.add(mpc.scale(centred, 0.1), 2.0))
    return mpc.scale(mpc.mul(e, mpc.polynomial(mpc.mean(e, (dim,), True), (0.5, -0.1, 0.05))), 1 / x.shape[dim])


def _layer_norm(x, weight=None, bias=None, *, normalized_shape, eps):  # type: ignore[no-untyped-def]
    centred = mpc.sub(x, mpc.mean(x, (len(x.shape) - 1,), True))
    y = mpc.mul(centred, mpc.polynomial(mpc.mean(mpc.square(centred), (len(x.shape) - 1,), True), (1.0, -0.1, 0.02)))
    y = y if weight is None else mpc.mul(y, weight)
    return y if bias is None else mpc.add(y, bias)


STAND_INS = {
    "softmax": Approximation("softmax_test", "softmax", "structural", "test", _softmax),
    "layer_norm": Approximation("layer_norm_test", "layer_norm", "structural", "test", _layer_norm),
    "gelu": Approximation("gelu_test", "gelu", "structural", "test", lambda x: mpc.polynomial(x, (0.0, 0.5, 0.2))),
    "group_norm": Approximation("group_norm_test", "group_norm", "structural", "test", lambda x, *p, **o: mpc.neg(x)),
}


@cache
def expanded(name: str, prepared: bool = True) -> fx.GraphModule:
    """The mpc level of a model, each site by a stand-in of the usual form."""
    graph_module = copy.deepcopy(captured(name))
    for nn_pass in NN_ORDER if prepared else ():
        registry.pass_(nn_pass)(graph_module)
    choices = {s: Choice(STAND_INS[n.target._schema.name[6:]].name) for s, n in sites(graph_module).items()}
    return expand(graph_module, Plan(choices), {a.name: a for a in STAND_INS.values()})


def check(before: fx.GraphModule, name: str) -> fx.GraphModule:
    after = copy.deepcopy(before)
    old = {n.name for n in after.graph.nodes}
    result = registry.pass_(name)(after)
    assert_same(before, after)
    for node in after.graph.nodes:
        if node.op == "call_function":
            assert tuple(node.meta["val"].shape) is not None and "layer" in node.meta, node.name
            assert node.name in old or node.meta["made_by"][-1] == name, node.name
    assert not registry.pass_(name)(after).modified, "not idempotent"
    parameters = {n.target for n in after.graph.nodes if n.op == "get_attr"}
    if result.modified:
        assert set(after.state_dict()) <= parameters, "parameters that nothing reads"
    return after


@pytest.mark.parametrize("name", NN_PASSES)
@pytest.mark.parametrize("model_name", MODELS)
def test_one_pass(model_name: str, name: str) -> None:
    before = captured(model_name)
    after = check(before, name)
    verify(after)
    assert set(sites(after)) <= set(sites(before))


@pytest.mark.parametrize("model_name", MODELS)
def test_all_nn_passes(model_name: str) -> None:
    graph_module = captured(model_name)
    for name in NN_ORDER:
        graph_module = check(graph_module, name)
        verify(graph_module)
    for name in NN_ORDER:
        assert not registry.pass_(name)(graph_module).modified, name


@pytest.mark.parametrize("name", MPC_PASSES)
@pytest.mark.parametrize("model_name", MODELS)
def test_one_mpc_pass(model_name: str, name: str) -> None:
    check(expanded(model_name, prepared=False), name)


@pytest.mark.parametrize("model_name", MODELS)
def test_all_mpc_passes(model_name: str) -> None:
    graph_module = expanded(model_name)
    for name in MPC_ORDER:
        graph_module = check(graph_module, name)
    for name in MPC_ORDER:
        assert not registry.pass_(name)(graph_module).modified, name


@pytest.mark.parametrize("model_name", ["class token", "layer scale", "convolutions"])
def test_the_result_trains(model_name: str) -> None:
    """Every parameter of the rewritten graph gets a gradient."""
    graph_module = captured(model_name)
    for name in NN_ORDER:
        graph_module = check(graph_module, name)
    module, x = model(model_name)
    graph_module(x).square().sum().backward()
    without = [name for name, p in graph_module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_every_pass_says_what_it_is() -> None:
    for rewrite in registry.passes().values():
        assert rewrite.source and rewrite.summary.endswith("."), rewrite.name


def test_the_orders_name_every_pass() -> None:
    assert set(NN_ORDER) == set(NN_PASSES) and {*MPC_ORDER, *OPTIONAL} >= set(MPC_PASSES)
