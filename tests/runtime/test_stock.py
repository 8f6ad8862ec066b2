"""The stock engine: CrypTen's functions give the right values, and cost exactly what the cost model says."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx

from mpcc import registry
from mpcc.cost import LAN, estimate_graph
from mpcc.errors import PartyError, RangeError, ShapeError, UnsupportedOperator
from mpcc.ir import nn
from mpcc.runtime.crypten_stock import run as stock
from mpcc.runtime.crypten_stock.operators import FUNCTIONS
from mpcc.runtime.crypten_stock.run import run_stock

aten = torch.ops.aten


class Build:
    """Builds an nn-level graph by hand, every node with shape and layer."""

    def __init__(self) -> None:
        self.root, self.graph, self.inputs = torch.nn.Module(), fx.Graph(), []

    def input(self, value: torch.Tensor) -> fx.Node:
        node = self.graph.placeholder(f"x{len(self.inputs)}")
        node.meta["val"] = nn.meta_tensor(value)
        self.inputs.append(value)
        return node

    def weight(self, name: str, value: torch.Tensor) -> fx.Node:
        self.root.register_buffer(name, value)
        node = self.graph.get_attr(name)
        node.meta["val"] = nn.meta_tensor(value)
        return node

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = self.graph.call_function(target, args, kwargs)
        meta = fx.node.map_arg((args, kwargs), lambda n: n.meta["val"])
        node.meta.update(val=target(*meta[0], **meta[1]), layer="layer")
        return node

    def done(self, *outputs: fx.Node) -> fx.GraphModule:
        self.graph.output(tuple(outputs))
        module = fx.GraphModule(self.root, self.graph)
        nn.name_sites(module.graph)
        nn.verify(module)
        return module


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def every_operator() -> tuple[fx.GraphModule, list[torch.Tensor], dict[str, float]]:
    """A graph that calls every operator of the stock engine, at several shapes, and the relative errors allowed."""
    b = Build()
    x = b.input(normal(2, 3, 8))
    y = b.input(normal(3, 8, seed=1))
    p = b.input(normal(5, 4, seed=2).abs() * 3 + 0.2)  # positive
    wide = b.input(normal(2, 65, seed=3) * 2)
    image = b.input(normal(1, 4, 6, 6, seed=4))
    w, bias = b.weight("w", normal(6, 8, seed=5) / 3), b.weight("bias", normal(6, seed=6))
    gain, shift = b.weight("gain", normal(8, seed=7) * 0.1 + 1), b.weight("shift", normal(8, seed=8))
    kernel = b.weight("kernel", normal(4, 2, 3, 3, seed=9) / 4)
    channels = b.weight("channels", normal(4, seed=10))
    order = b.weight("order", torch.tensor([2, 0, 1]))
    c = b.call
    relu_sum = c(aten.sum.dim_IntList, c(aten.relu.default, wide), [-1], True)
    calls = [
        c(aten.add.Tensor, x, y), c(aten.add.Tensor, x, 2.5), c(aten.sub.Tensor, x, y), c(aten.neg.default, x),
        c(aten.mul.Tensor, x, y), c(aten.mul.Tensor, x, 0.0013), c(aten.mul.Tensor, x, gain),
        c(aten.div.Tensor, x, 7),
        c(aten.div.Tensor, wide, relu_sum), c(aten.div.Tensor, p, p),
        c(aten.pow.Tensor_Scalar, y, 2), c(aten.pow.Tensor_Scalar, y, 5),
        c(aten.sum.dim_IntList, x, [1], False), c(aten.mean.dim, x, [-1], True),
        c(aten.avg_pool2d.default, image, [2, 2], [2, 2]),
        c(aten.linear.default, x, w, bias), c(aten.linear.default, y, w),
        c(aten.matmul.default, x, c(aten.permute.default, x, [0, 2, 1])),
        c(aten.convolution.default, image, kernel, channels, [2, 2], [1, 1], [1, 1], False, [0, 0], 2),
        c(aten.softmax.int, x, -1), c(aten.softmax.int, wide, -1), c(aten.softmax.int, x, 1),
        c(aten.gelu.default, x), c(aten.gelu.default, y, approximate="tanh"),
        c(aten.layer_norm.default, x, [8], gain, shift),
        c(aten.layer_norm.default, wide, [65]), c(aten.rms_norm.default, x, [8], gain, 1e-6),
        c(aten.group_norm.default, image, 2, channels, channels),
        c(aten.relu.default, x), c(aten.silu.default, y), c(aten.sigmoid.default, y), c(aten.tanh.default, y),
        c(aten.hardsigmoid.default, y), c(aten.hardswish.default, y), c(aten.exp.default, y),
        c(aten.reciprocal.default, p),
        c(aten.rsqrt.default, p), c(aten.sqrt.default, p), c(aten.abs.default, y),
        c(aten.clamp.default, y, -0.5, 0.5),
        c(aten.clamp.default, y, 0.1), c(aten.clamp.default, y, None, 0.1), c(aten.amax.default, wide, [-1], True),
        c(aten.amax.default, y, [0, 1], False), c(aten.max_pool2d.default, image, [2, 2], [2, 2]),
        c(aten.maximum.default, x, y),
        c(aten.minimum.default, x, y), c(aten.leaky_relu.default, y, 0.1), c(aten.elu.default, y),
        c(aten.constant_pad_nd.default, y, [1, 2], 0.5), c(aten.index.Tensor, y, [order]),
        c(aten.roll.default, x, [1], [2]),
        c(aten.cat.default, [x, x], 1), c(aten.expand.default, gain, [3, 8]), c(aten.select.int, x, 1, 0),
        c(aten.slice.Tensor, x, 2, 0, 8, 3), c(aten.reshape.default, x, [6, 8]), c(aten.flip.default, x, [2]),
    ]  # fmt: skip
    allowed = {"gelu": 0.03, "exp": 0.02, "elu": 0.02}
    return b.done(*calls), b.inputs, allowed


def test_every_operator_is_right_and_costs_what_is_predicted() -> None:
    graph, inputs, allowed = every_operator()
    run = run_stock(graph, inputs)
    estimate = estimate_graph(graph, registry.protocol("crypten-stock"), LAN)

    measured = {row.site: (row.rounds, row.bytes) for row in run.rows if row.rounds}
    assert measured == {row.site: (row.rounds, row.bytes) for row in estimate.sites if row.rounds}
    assert (run.rounds, run.bytes) == (estimate.rounds, estimate.bytes)
    assert {row.kind for row in run.rows} >= set(FUNCTIONS)

    expected, outputs = graph(*inputs), list(graph.graph.find_nodes(op="output"))[0].args[0]
    for node, secure, plain in zip(outputs, run.outputs, expected, strict=True):
        assert secure.shape == plain.shape
        kind = str(node.target).split(".")[1]
        error = ((secure - plain).abs() / (1 + plain.abs())).max()
        assert error < allowed.get(kind, 0.005), node


def vit_tiny() -> tuple[fx.GraphModule, list[torch.Tensor]]:
    """One attention block by hand: 5 tokens of width 8, 2 heads."""
    b = Build()
    c = b.call
    x = b.input(normal(1, 5, 8))
    gain, shift = b.weight("gain", normal(8, seed=7) * 0.1 + 1), b.weight("shift", normal(8, seed=8))
    y = c(aten.layer_norm.default, x, [8], gain, shift)
    parts = c(aten.reshape.default, c(aten.linear.default, y, b.weight("qkv", normal(24, 8) / 3)), [1, 5, 3, 2, 4])
    q, k, v = (c(aten.permute.default, c(aten.select.int, parts, 2, i), [0, 2, 1, 3]) for i in range(3))
    logits = c(aten.mul.Tensor, c(aten.matmul.default, q, c(aten.permute.default, k, [0, 1, 3, 2])), 0.5)
    mixed = c(aten.matmul.default, c(aten.softmax.int, logits, -1), v)
    flat = c(aten.reshape.default, c(aten.permute.default, mixed, [0, 2, 1, 3]), [1, 5, 8])
    x = c(aten.add.Tensor, x, c(aten.linear.default, flat, b.weight("proj", normal(8, 8) / 3)))
    return b.done(c(aten.gelu.default, x)), b.inputs


def test_a_dead_party_is_reported_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, inputs = vit_tiny()
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def remember(*args: Any, **kwargs: Any) -> Any:
        started.append(real(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(stock.subprocess, "Popen", remember)
    killer = threading.Timer(0.5, lambda: os.kill(started[0].pid, signal.SIGKILL))
    killer.start()
    begin = time.monotonic()
    with pytest.raises(PartyError, match="party 0"):
        run_stock(graph, inputs)
    killer.cancel()
    assert time.monotonic() - begin < 10
    assert all(process.poll() is not None for process in started)


def single(call: Callable[[Build], fx.Node]) -> Build:
    b = Build()
    node = call(b)
    b.module = b.done(node)
    return b


def test_what_crypten_cannot_do_is_refused_before_anything_starts() -> None:
    b = single(lambda b: b.call(aten.exp.default, b.input(torch.full((2,), 30.0))))
    with pytest.raises(RangeError, match="exp is right on"):
        run_stock(b.module, b.inputs)
    b = single(lambda b: b.call(aten.cos.default, b.input(torch.zeros(2))))
    with pytest.raises(UnsupportedOperator, match="cos.default .node cos_default in layer layer."):
        run_stock(b.module, b.inputs)
    b = single(lambda b: b.call(aten.relu.default, b.input(torch.zeros(2))))
    with pytest.raises(ShapeError, match="has shape .3,., the model takes .2,."):
        run_stock(b.module, [torch.zeros(3)])
