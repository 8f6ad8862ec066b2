"""RNN, GRU and LSTM, unrolled over their steps. Source: onnx/onnx docs/Operators.md; its letters for the gates.

Shapes: x [steps, batch, inputs], weights [directions, gates * hidden, inputs or hidden], biases [directions, 2 * gates * hidden].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import AttributeProto

from ..op import Op, Table, shape_of
from ..recorder import Value, aten

FUNCTIONS: dict[str, Any] = {
    "sigmoid": aten.sigmoid.default, "tanh": aten.tanh.default, "relu": aten.relu.default, "softplus": aten.softplus.default,
}  # fmt: skip
State = tuple[Value, ...]


@dataclass(frozen=True)
class Direction:
    """The weights of one direction, and its functions f, g (and h)."""

    op: Op
    of_x: Value
    of_h: Value
    x_bias: Value | None
    h_bias: Value | None
    peepholes: Value | None
    functions: Sequence[str]
    clip: float | None

    def apply(self, number: int, x: Value) -> Value:
        if self.clip is not None:
            x = self.op.call(aten.clamp.default, x, -self.clip, self.clip)
        return self.op.call(FUNCTIONS[self.functions[number]], x)

    def linear(self, x: Value, weight: Value, bias: Value | None) -> Value:
        return self.op.call(aten.linear.default, x, weight, *([] if bias is None else [bias]))

    def part(self, value: Value, place: int, axis: int = -1) -> Value:
        """The part of one gate, along an axis of all gates."""
        size = shape_of(self.of_h)[-1]
        axis = axis % len(shape_of(value))
        return self.op.call(aten.slice.Tensor, value, axis, place * size, (place + 1) * size)


def rnn_step(d: Direction, gates: Value, state: State) -> State:
    """H' = f(x W + H R + b)"""
    return (d.apply(0, d.op.add(gates, d.linear(state[0], d.of_h, d.h_bias))),)


def gru_step(d: Direction, gates: Value, state: State) -> State:
    """z, r = f(..), h = g(x W + (r . H) R + b) or g(x W + r . (H R + b) + b), H' = (1 - z) . h + z . H"""
    op, (hidden,) = d.op, state
    of_state = d.linear(hidden, d.of_h, d.h_bias)
    z, r = (d.apply(0, op.add(d.part(gates, i), d.part(of_state, i))) for i in (0, 1))
    if op.flag("linear_before_reset"):
        reset = op.mul(d.part(of_state, 2), r)
    else:
        bias = None if d.h_bias is None else d.part(d.h_bias, 2)
        reset = d.linear(op.mul(hidden, r), d.part(d.of_h, 2, 0), bias)
    new = d.apply(1, op.add(d.part(gates, 2), reset))
    return (op.add(new, op.mul(op.sub(hidden, new), z)),)


def lstm_step(d: Direction, gates: Value, state: State) -> State:
    """i, o, f = f(.. + P . C), c = g(..), C' = f . C + i . c, H' = o . h(C')"""
    op, (hidden, cell) = d.op, state
    both = op.add(gates, d.linear(hidden, d.of_h, d.h_bias))

    def gate(place: int, looks_at: Value) -> Value:
        """Places: input, output, forget; the peepholes have the same order."""
        x = d.part(both, place)
        return d.apply(0, x if d.peepholes is None else op.add(x, op.mul(looks_at, d.part(d.peepholes, place))))

    kept = op.mul(gate(2, cell), cell)
    made = op.add(kept, op.mul(gate(0, cell), d.apply(1, d.part(both, 3))))
    return op.mul(gate(1, made), d.apply(2, made)), made


def recurrent(gates: int, functions: Sequence[str], step: Callable[[Direction, Value, State], State]) -> Any:
    """The handler of an operator with so many gates; `functions` are the defaults of one direction."""
    states = 2 if step is lstm_step else 1

    def handler(
        op: Op, x: Value, of_x: Value, of_h: Value, bias: Value | None = None, lengths: Value | None = None,
        *more: Value | None,
    ) -> tuple[Value, ...]:  # fmt: skip
        if step is lstm_step and op.flag("input_forget"):
            op.refuse("coupled input and forget gates are not supported")
        batch_first, hidden = op.flag("layout"), shape_of(of_h)[-1]
        if op.integer("hidden_size", hidden) != hidden:
            op.refuse(f"hidden_size is not the {hidden} of its weights")
        x = op.permute(x, [1, 0, 2]) if batch_first else x
        masks = _masks(op, lengths, shape_of(x)[0])
        named = _functions(op, functions)
        outputs: list[Value] = []
        lasts: list[State] = []
        for way, backwards in enumerate(_backwards(op)):
            chosen = named[way * len(functions) :][: len(functions)]
            direction = _direction(op, way, of_x, of_h, bias, more[states] if len(more) > states else None, chosen, gates)
            start = tuple(_start(op, more[i] if len(more) > i else None, way, x, hidden, batch_first) for i in range(states))
            made, last = _unrolled(direction, x, start, step, masks, backwards)
            outputs.append(made)
            lasts.append(last)
        ends = [op.call(aten.stack.default, list(column), 1 if batch_first else 0) for column in zip(*lasts, strict=True)]
        y = op.call(aten.stack.default, outputs, 1)  # [steps, directions, batch, hidden]
        return (op.permute(y, [2, 0, 1, 3]) if batch_first else y, *ends)

    return handler


def _backwards(op: Op) -> list[bool]:
    name = op.choice("direction", "forward", "reverse", "bidirectional")
    return {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[name]


def _functions(op: Op, defaults: Sequence[str]) -> list[str]:
    given = op.attribute("activations") if op.has("activations") else None
    if given is None:
        return [*defaults, *defaults]
    if given.type != AttributeProto.STRINGS:
        op.refuse("the attribute activations is of the wrong type")
    found = [bytes(item).decode().lower() for item in op.short(given.strings, "activations")]
    unknown = [name for name in found if name not in FUNCTIONS]
    if unknown or len(found) < len(defaults) * len(_backwards(op)):
        op.refuse(f"the activations {', '.join(found)} are not supported", f"Known are {', '.join(FUNCTIONS)}.")
    return found


def _direction(
    op: Op, way: int, of_x: Value, of_h: Value, bias: Value | None, peepholes: Value | None, functions: Sequence[str], gates: int
) -> Direction:  # fmt: skip
    def one(value: Value) -> Value:
        return op.call(aten.select.int, value, 0, way)

    half = gates * shape_of(of_h)[-1]

    def part(place: int) -> Value | None:
        return None if bias is None else op.call(aten.slice.Tensor, one(bias), 0, place * half, (place + 1) * half)

    clip = op.number("clip") if op.has("clip") else None
    looks = None if peepholes is None else one(peepholes)
    return Direction(op, one(of_x), one(of_h), part(0), part(1), looks, functions, clip)


def _start(op: Op, given: Value | None, way: int, x: Value, hidden: int, batch_first: bool) -> Value:
    """[batch, hidden]"""
    if given is None:
        return torch.zeros(shape_of(x)[1], hidden)
    return op.call(aten.select.int, given, 1 if batch_first else 0, way)


def _masks(op: Op, lengths: Value | None, steps: int) -> list[torch.Tensor | None]:
    """For each step, 1 where a sequence has not ended [batch, 1]; None where none has."""
    if lengths is None:
        return [None] * steps
    known = op.known(lengths, "the lengths of the sequences").reshape(-1, 1)
    return [None if bool((known > step).all()) else (known > step).float() for step in range(steps)]


def _unrolled(
    d: Direction, x: Value, state: State, step: Callable[[Direction, Value, State], State], masks: Sequence[torch.Tensor | None],
    backwards: bool,
) -> tuple[Value, State]:  # fmt: skip
    """Every output [steps, batch, hidden], and the last state. A sequence that has ended keeps its state and gives zeros."""
    op, gates, steps = d.op, d.linear(x, d.of_x, d.x_bias), d.op.parts(shape_of(x)[0], "the number of steps")
    outputs: list[Value] = []
    for place in reversed(range(steps)) if backwards else range(steps):
        new = step(d, op.call(aten.select.int, gates, 0, place), state)
        mask = masks[place]
        if mask is not None:
            new = tuple(op.add(old, op.mul(op.sub(one, old), mask)) for one, old in zip(new, state, strict=True))
        outputs.append(new[0] if mask is None else op.mul(new[0], mask))
        state = new
    return op.call(aten.stack.default, outputs[::-1] if backwards else outputs, 0), state


OPERATORS: Table = {
    ("", "RNN"): recurrent(1, ["tanh"], rnn_step),
    ("", "GRU"): recurrent(3, ["sigmoid", "tanh"], gru_step),
    ("", "LSTM"): recurrent(4, ["sigmoid", "tanh", "tanh"], lstm_step),
}
