"""What is measured under SPU and priced by its cost models: every primitive by itself, and a transformer block.

CASES["softmax"]()      -> (graph, inputs)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from mpcc.frontend import capture
from mpcc.ir import mpc
from mpcc.ir.nn import name_sites
from mpcc.ir.trace import Recorder

aten = torch.ops.aten
Made = tuple[fx.GraphModule, list[Tensor]]
ROWS = (2, 12, 33)
"""Heads, tokens, columns: no size of another, so that a formula cannot mix them up."""


def graph_of(function: Callable[..., Any], *shapes: tuple[int, ...], weights: int = 0) -> Made:
    """A function over operators of either level, on inputs of these shapes; the last `weights` of them are weights."""
    root, graph, nodes = nn.Module(), fx.Graph(), []
    inputs: list[Tensor] = []
    for i, shape in enumerate(shapes):
        value = torch.randn(shape, generator=torch.Generator().manual_seed(i)).abs() + 0.1
        if i < len(shapes) - weights:
            nodes.append(graph.placeholder(f"x{i}"))
            inputs.append(value)
        else:
            root.register_buffer(f"w{i}", value)
            nodes.append(graph.get_attr(f"w{i}"))
        nodes[-1].meta["val"] = torch.empty(shape, device="meta")
    graph.output((Recorder(graph, {"layer": "layer"}).call(function, *nodes),))
    name_sites(graph)
    return fx.GraphModule(root, graph), inputs


def case(function: Callable[..., Any], *shapes: tuple[int, ...], weights: int = 0) -> Callable[[], Made]:
    return lambda: graph_of(function, *(shapes or (ROWS,)), weights=weights)


IMAGE = (1, 4, 6, 10)
PRIMITIVES: dict[str, Callable[[], Made]] = {
    "add": case(aten.add.Tensor, ROWS, ROWS),
    "sum": case(lambda x: aten.sum.dim_IntList(x, [-1], True)),
    "mean": case(lambda x: aten.mean.dim(x, [-1], True)),
    "mul by a number": case(lambda x: aten.mul.Tensor(x, 0.3)),
    "scale": case(lambda x: mpc.scale(x, 0.3)),
    "mul": case(aten.mul.Tensor, ROWS, ROWS),
    "mul by a weight": case(aten.mul.Tensor, ROWS, (33,), weights=1),
    "mul by a row's number": case(aten.mul.Tensor, ROWS, (2, 12, 1)),
    "square": case(mpc.square),
    "pow": case(lambda x: aten.pow.Tensor_Scalar(x, 5)),
    "polynomial of degree 1": case(lambda x: mpc.polynomial(x, (0.5, 0.25))),
    "polynomial of degree 2": case(lambda x: mpc.polynomial(x, (0.5, 0.25, 0.125))),
    "polynomial of degree 4": case(lambda x: mpc.polynomial(x, (0.5, 0.25, 0.3, 0.1, 0.2))),
    "div": case(aten.div.Tensor, ROWS, ROWS),
    "div by a row's number": case(aten.div.Tensor, ROWS, (2, 12, 1)),
    "div by a number": case(lambda x: aten.div.Tensor(x, 7)),
    "reciprocal": case(aten.reciprocal.default),
    "rsqrt": case(aten.rsqrt.default),
    "sqrt": case(aten.sqrt.default),
    "exp": case(aten.exp.default),
    "less": case(lambda x: mpc.less(x, 0.5)),
    "bit as a number": case(lambda x, y: mpc.add(mpc.less(x, 0.5), y), ROWS, ROWS),
    "bit times a number": case(lambda x: mpc.scale(mpc.less(x, 0.5), 0.3)),
    "bit subtracted": case(lambda x, y: mpc.sub(y, mpc.less(x, 0.5)), ROWS, ROWS),
    "bits summed": case(lambda x: mpc.sum(mpc.less(x, 0.5), (-1,), True)),
    "bit times a value": case(lambda x, y: mpc.mul(mpc.less(x, 0.5), y), ROWS, ROWS),
    "change of sign": case(lambda x: mpc.scale(x, -1.0)),
    "public mask": case(lambda x: mpc.apply_mask(x, (12, 33), "f0" * 50)),
    "select": case(lambda x, y: mpc.select(mpc.less(x, 0.5), y), ROWS, ROWS),
    "relu": case(aten.relu.default),
    "leaky_relu": case(lambda x: aten.leaky_relu.default(x, 0.1)),
    "abs": case(aten.abs.default),
    "maximum": case(aten.maximum.default, ROWS, ROWS),
    "minimum": case(aten.minimum.default, ROWS, ROWS),
    "clamp": case(lambda x: aten.clamp.default(x, -0.5, 0.5)),
    "clamp from below": case(lambda x: aten.clamp.default(x, 0.2)),
    "elu": case(aten.elu.default),
    "sigmoid": case(aten.sigmoid.default),
    "tanh": case(aten.tanh.default),
    "silu": case(aten.silu.default),
    "hardsigmoid": case(aten.hardsigmoid.default),
    "hardswish": case(aten.hardswish.default),
    "gelu": case(aten.gelu.default),
    "gelu by tanh": case(lambda x: aten.gelu.default(x, approximate="tanh")),
    "amax": case(lambda x: aten.amax.default(x, [-1], True)),
    "max_pool2d": case(lambda x: aten.max_pool2d.default(x, [2, 2], [2, 2]), IMAGE),
    "avg_pool2d": case(lambda x: aten.avg_pool2d.default(x, [2, 2], [2, 2]), IMAGE),
    "softmax": case(lambda x: aten.softmax.int(x, -1)),
    "layer_norm": case(lambda x, w, b: aten.layer_norm.default(x, [33], w, b), ROWS, (33,), (33,), weights=2),
    "layer_norm without a weight": case(lambda x: aten.layer_norm.default(x, [33])),
    "rms_norm": case(lambda x, w: aten.rms_norm.default(x, [33], w, 1e-6), ROWS, (33,), weights=1),
    "group_norm": case(lambda x, w, b: aten.group_norm.default(x, 2, w, b), IMAGE, (4,), (4,), weights=2),
    "linear": case(aten.linear.default, (1, 12, 33), (20, 33), (20,), weights=2),
    "matmul": case(aten.matmul.default, (12, 33), (33, 20)),
    "matmul head by head": case(aten.matmul.default, (1, 4, 12, 33), (1, 4, 33, 20)),
    "convolution": case(
        lambda x, w, b: aten.convolution.default(x, w, b, [2, 2], [0, 0], [1, 1], False, [0, 0], 1),
        IMAGE, (8, 4, 2, 2), (8,), weights=2,
    ),
    "convolution with padding": case(
        lambda x, w, b: aten.convolution.default(x, w, b, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        IMAGE, (8, 4, 3, 3), (8,), weights=2,
    ),
}  # fmt: skip


class Block(nn.Module):
    """A whole transformer block, pre-norm. [1, tokens, width] -> the same"""

    def __init__(self, width: int, heads: int, hidden: int, approximate: str) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(approximate), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        logits = (q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5
        mixed = (logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.proj(mixed)
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


def block(tokens: int, width: int, heads: int, hidden: int, approximate: str = "none") -> Callable[[], Made]:
    def made() -> Made:
        torch.manual_seed(0)
        x = torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(1))
        return capture(Block(width, heads, hidden, approximate).eval(), (x,)), [x]

    return made


BLOCKS: dict[str, Callable[[], Made]] = {
    "block, 17 tokens of width 48, 3 heads": block(17, 48, 3, 96),
    "block, 33 tokens of width 64, 4 heads, GELU by tanh": block(33, 64, 4, 128, "tanh"),
}
CASES = {**PRIMITIVES, **BLOCKS}


# ---- Cheetah: sizes of a ViT-Lite block, and what one more copy of it costs in a program that has had one -------------

TOKENS, HEADS, WIDTH = 65, 4, 256
HIDDEN = TOKENS * WIDTH
FEW = 128 * 64


def copies(function: Callable[..., Any], *shapes: tuple[int, ...], weights: int = 0) -> Callable[[int], Made]:
    """made(2): two calls on inputs of their own, and the sum of their results. Weights are shared."""
    own = len(shapes) - weights

    def made(count: int) -> Made:
        def several(*values: Any) -> Any:
            shared = values[own * count :]
            results = [function(*values[own * i : own * (i + 1)], *shared) for i in range(count)]
            total = results[0]
            for result in results[1:]:
                total = mpc.add(total, result)
            return total

        return graph_of(several, *shapes[:own] * count, *shapes[own:], weights=weights)

    return made


def blocks(count: int) -> Made:
    """`count` blocks of ViT-Lite one after the other, GELU by tanh."""
    torch.manual_seed(0)
    x = torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    made = nn.Sequential(*(Block(WIDTH, HEADS, 2 * WIDTH, "tanh") for _ in range(count)))
    return capture(made.eval(), (x,)), [x]


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "scale": lambda x: mpc.scale(x, 0.3),
    "square": mpc.square,
    "less": lambda x: mpc.less(x, 0.5),
    "relu": aten.relu.default,
    "abs": aten.abs.default,
    "exp": aten.exp.default,
    "reciprocal": aten.reciprocal.default,
    "rsqrt": aten.rsqrt.default,
    "sqrt": aten.sqrt.default,
    "tanh": aten.tanh.default,
    "sigmoid": aten.sigmoid.default,
    "bit times a number": lambda x: mpc.scale(mpc.less(x, 0.5), 0.3),
}
AMORTISED: dict[str, Callable[[int], Made]] = {
    **{
        f"{name} of {count} elements": copies(function, (count // 64, 64))
        for count in (FEW, HIDDEN)
        for name, function in ELEMENTWISE.items()
    },
    "mul of 16640 elements": copies(aten.mul.Tensor, (260, 64), (260, 64)),
    "square of 33280 elements": copies(mpc.square, (520, 64)),
    "square of 65536 elements": copies(mpc.square, (1024, 64)),
    "softmax": copies(lambda x: aten.softmax.int(x, -1), (HEADS, TOKENS, TOKENS)),
    "layer_norm": copies(
        lambda x, w, b: aten.layer_norm.default(x, [WIDTH], w, b), (TOKENS, WIDTH), (WIDTH,), (WIDTH,), weights=2
    ),
    "linear": copies(aten.linear.default, (TOKENS, WIDTH), (3 * WIDTH, WIDTH), weights=1),
    "matmul head by head": copies(aten.matmul.default, (HEADS, TOKENS, 64), (HEADS, 64, TOKENS)),
    "block of ViT-Lite, GELU by tanh": blocks,
}


def cases_of(protocol: str) -> list[str]:
    return list(AMORTISED if protocol == "cheetah" else CASES)


def measure(name: str, protocol: str) -> dict[str, int]:
    """What SPU counts for a case: bytes and messages of all parties. Cheetah: two copies less one."""
    from mpcc.runtime.spu.simulate import run_spu

    if protocol != "cheetah":
        graph, inputs = CASES[name]()
        run = run_spu(graph, inputs, protocol)
        return {"bytes": run.bytes, "sends": run.sends}
    one, two = (run_spu(*AMORTISED[name](count), protocol) for count in (1, 2))
    return {"bytes": two.bytes - one.bytes, "sends": two.sends - one.sends}
