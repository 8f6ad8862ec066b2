"""LSTM layers, unrolled over their steps: linear layers, sigmoids and hyperbolic tangents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..builder import Builder
from ..values import Decline, Rules, Value, shape

aten = torch.ops.aten


def lstm(
    b: Builder, x: Value, state: Sequence[Value], weights: Sequence[Value], biases: bool, layers: int, dropout: float,
    train: bool, both: bool, batch_first: bool,
) -> Any:  # fmt: skip
    """x [batch, steps, features], or [steps, batch, features] -> outputs, the last h and the last c of every layer.

    Gates in torch's order: input, forget, cell, output.
    """
    each, ways = 4 if biases else 2, 2 if both else 1
    if len(weights) != each * layers * ways:
        raise Decline("an LSTM with projections")
    steps = 1 if batch_first else 0
    last_h, last_c = [], []
    for layer in range(layers):
        made = []
        for way in range(ways):
            place = layer * ways + way
            start = [b.do(aten.select.int, part, 0, place) for part in state]
            outputs, c = _one_way(b, x, start, weights[place * each :][:each], steps, backwards=way == 1)
            made.append(b.do(aten.stack.default, outputs, steps))
            last_h.append(outputs[0 if way == 1 else -1])
            last_c.append(c)
        x = b.do(aten.cat.default, made, -1) if both else made[0]
    return [x, b.do(aten.stack.default, last_h, 0), b.do(aten.stack.default, last_c, 0)]


def _one_way(
    b: Builder, x: Value, start: Sequence[Value], weights: Sequence[Value], steps: int, *, backwards: bool
) -> tuple[list[Value], Value]:
    """The output of every step [batch, hidden], in the order of the steps, and the last cell."""
    (h, c), (of_x, of_h, *bias) = start, weights
    gates_of_x, count = b.do(aten.linear.default, x, of_x, *bias[:1]), shape(x)[steps]
    size = shape(of_h)[1]
    outputs: list[Value] = []
    for step in reversed(range(count)) if backwards else range(count):
        of_state = b.do(aten.linear.default, h, of_h, *bias[1:])
        gates = b.do(aten.add.Tensor, b.do(aten.select.int, gates_of_x, steps, step), of_state)
        enters, keeps, new, leaves = (b.slice(gates, 1, i * size, (i + 1) * size) for i in range(4))
        kept = b.do(aten.mul.Tensor, b.do(aten.sigmoid.default, keeps), c)
        entered = b.do(aten.mul.Tensor, b.do(aten.sigmoid.default, enters), b.do(aten.tanh.default, new))
        c = b.do(aten.add.Tensor, kept, entered)
        h = b.do(aten.mul.Tensor, b.do(aten.sigmoid.default, leaves), b.do(aten.tanh.default, c))
        outputs.append(h)
    return outputs[::-1] if backwards else outputs, c


RULES: Rules = {aten.lstm.input: lstm}
