"""What every exact rewrite keeps (`mpcc.testing.contracts`), alone and in the order that the pipeline runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, fx, nn

from mpcc import registry
from mpcc.approximate import Approximation, Choice, Part, Plan, Split
from mpcc.approximate.expand import expand
from mpcc.frontend import capture
from mpcc.ir import mpc
from mpcc.ir.nn import sites
from mpcc.rewrite import settle
from mpcc.testing.contracts import check_rewrite
from tests.models.graphs import graph_of
from tests.models.pass_models import MODELS, model

NAMES = {level: [p.name for p in registry.passes().values() if p.graph == level] for level in ("nn", "mpc")}


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
    y = mpc.mul(centred, mpc.polynomial(mpc.mean(mpc.square(centred), (len(x.shape) - 1,), True), (1.0, -0.1, 0.0025)))
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
    if prepared:
        graph_module = settle(graph_module, registry.pass_order("nn"))
    choices = {s: Choice(STAND_INS[n.target._schema.name[6:]].name) for s, n in sites(graph_module).items()}
    return expand(graph_module, Plan(choices), {a.name: a for a in STAND_INS.values()})


@pytest.mark.parametrize("name", NAMES["nn"])
@pytest.mark.parametrize("model_name", MODELS)
def test_one_nn_pass(model_name: str, name: str) -> None:
    check_rewrite(registry.pass_(name), captured(model_name))


@pytest.mark.parametrize("name", NAMES["mpc"])
@pytest.mark.parametrize("model_name", MODELS)
def test_one_mpc_pass(model_name: str, name: str) -> None:
    check_rewrite(registry.pass_(name), expanded(model_name, prepared=False))


@pytest.mark.parametrize("level", ["nn", "mpc"])
@pytest.mark.parametrize("model_name", MODELS)
def test_all_passes_in_their_order(model_name: str, level: str) -> None:
    in_their_order(level, captured(model_name) if level == "nn" else expanded(model_name))


def in_their_order(level: str, graph_module: fx.GraphModule) -> None:
    """Each keeps its contract on what those before it made; once settled, none changes the graph any more."""
    settled = settle(copy.deepcopy(graph_module), registry.pass_order(level))
    for rewrite in registry.pass_order(level):
        graph_module = check_rewrite(rewrite, graph_module)
        assert not rewrite(copy.deepcopy(settled)).modified, rewrite.name


@pytest.mark.parametrize("model_name", ["class token", "layer scale", "convolutions"])
def test_the_result_trains(model_name: str) -> None:
    """Every parameter of the rewritten graph gets a gradient."""
    graph_module = settle(copy.deepcopy(captured(model_name)), registry.pass_order("nn"))
    module, x = model(model_name)
    graph_module(x).square().sum().backward()
    without = [name for name, p in graph_module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_every_pass_says_what_it_is() -> None:
    for rewrite in registry.passes().values():
        assert rewrite.source and rewrite.summary.endswith("."), rewrite.name


class WithAdapter(nn.Module):
    """A layer and an adapter of low rank beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.down, self.up = nn.Linear(8, 8), nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(x) + 0.5 * self.up(self.down(x))
        return found


class MaskedAttention(nn.Module):
    """Two linear layers in a row, then an attention in which no token sees those behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
        self.register_buffer("mask", torch.full((5, 5), -1e9).triu(1))

    def forward(self, x: Tensor) -> Tensor:  # [batch, 5, 8]
        x = self.layers(x)
        return (x @ x.transpose(-2, -1) + self.mask).softmax(-1) @ x


def split_sites() -> fx.GraphModule:
    """A head without a softmax and tokens without an activation, as structural plans have them."""
    graph_module = settle(copy.deepcopy(captured("sequence")), registry.pass_order("nn"))
    scaling = Approximation("scaling_test", "softmax", "structural", "test", lambda x, dim: mpc.scale(x, 1 / x.shape[dim]))
    identity = Approximation("identity_test", "gelu", "structural", "test", lambda x: mpc.scale(x, 1.0))
    choices: dict[str, Choice | Split] = {}
    for site, node in sites(graph_module).items():
        operator = node.target._schema.name[6:]
        choices[site] = Choice(STAND_INS[operator].name)
        if site == "blocks.0.attn.softmax":
            choices[site] = Split(1, (Part((0,), Choice("softmax_test")), Part((1,), Choice("scaling_test"))))
        if operator == "gelu":
            choices[site] = Split(1, (Part((0, 1), Choice("gelu_test")), Part(tuple(range(2, 9)), Choice("identity_test"))))
    return expand(graph_module, Plan(choices), {a.name: a for a in (*STAND_INS.values(), scaling, identity)})


class Linearised(nn.Module):
    """Attention whose softmax becomes a scaling, and a MLP whose activation is left out, with no norm in front of either."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:  # [batch, 16, 8]
        x = (self.q(x) @ self.k(x).transpose(-2, -1)).softmax(-1) @ self.v(x)
        return self.down(nn.functional.gelu(self.up(x)))


def without_norms() -> fx.GraphModule:
    graph_module = settle(capture(Linearised().eval(), torch.randn(1, 16, 8)), registry.pass_order("nn"))
    stand_ins = {
        "softmax": Approximation("scaling_test", "softmax", "structural", "test", lambda x, dim: mpc.scale(x, 1 / x.shape[dim])),
        "gelu": Approximation("identity_test", "gelu", "structural", "test", lambda x: mpc.scale(x, 1.0)),
    }
    choices = {site: Choice(stand_ins[node.target._schema.name[6:]].name) for site, node in sites(graph_module).items()}
    return expand(graph_module, Plan(choices), {one.name: one for one in stand_ins.values()})


def equal_products() -> fx.GraphModule:
    """One product twice, with its factors in either order."""
    return graph_of(lambda x, y: mpc.add(mpc.mul(x, y), mpc.square(mpc.mul(y, x))), {"x": (3, 4), "y": (3, 4)})


MORE = {
    "nn": [lambda: capture(MaskedAttention(), (torch.randn(2, 5, 8),)), lambda: capture(WithAdapter(), (torch.randn(2, 5, 8),))],
    "mpc": [split_sites, without_norms, equal_products],
}


@pytest.mark.parametrize(("level", "make"), [(level, make) for level, makes in MORE.items() for make in makes])
def test_what_only_some_plans_bring_about(level: str, make: Callable[[], fx.GraphModule]) -> None:
    in_their_order(level, make())


@pytest.mark.parametrize("level", ["nn", "mpc"])
def test_some_graph_gives_every_pass_something_to_do(level: str) -> None:
    """Else the contract would say nothing about it."""
    graphs = [captured(name) if level == "nn" else expanded(name) for name in MODELS]
    busy: set[str] = set()
    for graph_module in [*map(copy.deepcopy, graphs), *(make() for make in MORE[level])]:
        settle(graph_module, registry.pass_order(level), lambda one, done: busy.add(one.name) if done.modified else None)
    assert busy == set(NAMES[level])
