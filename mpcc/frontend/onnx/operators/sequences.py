"""Control flow that is settled while the file is read, and lists of tensors."""

from __future__ import annotations

from typing import Any

import torch
from onnx import GraphProto

from ..op import Op, Table, rank, shape_of
from ..recorder import Value, aten
from .views import pieces

List = tuple[Value, ...]


def if_(op: Op, condition: Value) -> tuple[Value, ...]:
    """The branch that the known condition chooses (exporters write one for every squeeze)."""
    chosen = bool(op.known(condition, "the condition").reshape(-1)[0].item())
    branches = op.attribute("else_branch"), op.attribute("then_branch")
    return tuple(op.run_graph(branches[chosen].g, {}))


def loop(op: Op, trips: Value | None, condition: Value | None, *carried: Value) -> tuple[Value, ...]:
    """Unrolled: the number of rounds and every condition must be known."""
    body = op.attribute("body").g
    count = None if trips is None else op.known_ints(trips, "the number of rounds")[0]
    if count is not None and _never_stops(body):
        op.parts(count, "the number of rounds")
    going = condition is None or bool(op.known(condition, "the condition").item())
    values, collected, done = list(carried), [], 0
    while going and (count is None or done < count):
        inputs = [torch.tensor(done), torch.tensor(True), *values]
        condition, *outputs = op.run_graph(body, dict(zip((i.name for i in body.input), inputs, strict=True)))
        going = bool(op.known(condition, "the condition of the next round").item())
        values = outputs[: len(values)]
        collected.append(outputs[len(values) :])
        done += 1
        op.parts(done, "the number of rounds")
    stacked = [op.call(aten.stack.default, list(column), 0) for column in zip(*collected, strict=True)]
    return (*values, *stacked)


def scan(op: Op, *inputs: Value | None) -> tuple[Value, ...]:
    """Unrolled over an axis of its scan inputs. Opset 8 has a batch before that axis, and lengths first."""
    if op.version >= 9:
        return _scan(op, [item for item in inputs if item is not None], op.integers("scan_input_axes"))
    lengths, *given = inputs
    if lengths is not None or op.has("directions"):
        op.refuse("lengths and directions of a scan of opset 8 are not supported")
    values = [item for item in given if item is not None]
    rounds = [
        _scan(op, [op.call(aten.select.int, item, 0, place) for item in values], [])
        for place in range(op.parts(shape_of(values[0])[0], "the batch"))
    ]
    return tuple(op.call(aten.stack.default, list(column), 0) for column in zip(*rounds, strict=True))


def _scan(op: Op, inputs: list[Value], axes: list[int]) -> tuple[Value, ...]:
    body, count = op.attribute("body").g, op.integer("num_scan_inputs")
    values, scanned = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    reversed_in, reversed_out = (op.integers(f"scan_{name}_directions") for name in ("input", "output"))
    places = [op.front(axis, rank(item)) for item, axis in zip(scanned, axes or [0] * count, strict=True)]
    length = op.parts(shape_of(scanned[0])[places[0]], "the number of rounds")
    collected: list[list[Value]] = []
    for step in range(length):
        now = [
            op.call(aten.select.int, item, axis, length - 1 - step if backwards else step)
            for item, axis, backwards in zip(scanned, places, reversed_in or [0] * count, strict=True)
        ]
        outputs = op.run_graph(body, dict(zip((i.name for i in body.input), [*values, *now], strict=True)))
        values = outputs[: len(values)]
        collected.append(outputs[len(values) :])
    columns = list(zip(*collected, strict=True))
    ways, out_axes = reversed_out or [0] * len(columns), op.integers("scan_output_axes") or [0] * len(columns)
    stacked = [
        op.call(aten.stack.default, list(column[::-1] if backwards else column), axis)
        for column, backwards, axis in zip(columns, ways, out_axes, strict=True)
    ]
    return (*values, *stacked)


def optional(op: Op, value: Any = None) -> Any:
    """A value that is there."""
    if value is None:
        op.refuse("an optional value that is not there is not supported")
    return value


def has_element(op: Op, value: Any = None) -> Value:
    return torch.tensor(value is not None)


def _never_stops(body: GraphProto) -> bool:
    """Whether the condition of the next round is that of this one, as in every `for`."""
    copies = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
    last, asked = str(body.output[0].name), str(body.input[1].name)
    return bool(copies.get(last, last) == asked)


def split_to_sequence(op: Op, x: Value, sizes: Value | None = None) -> List:
    axis = op.axis(0, rank(x))
    total = shape_of(x)[axis]
    if sizes is None:
        parts = [1] * op.parts(total, "the number of parts")
    else:
        found = op.known(sizes, "the sizes of the parts")
        each = int(found) if found.dim() == 0 else 0
        op.parts(-(-total // each) if each > 0 else found.numel(), "the number of parts")
        parts = [min(each, total - at) for at in range(0, total, each)] if each > 0 else found.tolist()
    items = pieces(op, x, axis, parts)
    if sizes is None and not op.flag("keepdims", True):
        items = [op.reshape(item, [*shape_of(x)[:axis], *shape_of(x)[axis + 1 :]]) for item in items]
    return tuple(items)


def sequence_construct(op: Op, *items: Value) -> List:
    return items


def sequence_empty(op: Op) -> List:
    return ()


def sequence_at(op: Op, items: List, place: Value) -> Value:
    return items[op.known_ints(place, "the place")[0]]


def sequence_insert(op: Op, items: List, item: Value, place: Value | None = None) -> List:
    at = len(items) if place is None else op.known_ints(place, "the place")[0]
    return (*items[:at], item, *items[at:])


def sequence_length(op: Op, items: List) -> Value:
    return torch.tensor(len(items))


def concat_from_sequence(op: Op, items: List) -> Value:
    target = aten.stack.default if op.flag("new_axis") else aten.cat.default
    return op.call(target, list(items), op.integer("axis"))


# Operators whose one output is a list.
LISTS = {("", "SplitToSequence"), ("", "SequenceConstruct"), ("", "SequenceEmpty"), ("", "SequenceInsert")}

OPERATORS: Table = {
    ("", "If"): if_,
    ("", "Loop"): loop,
    ("", "Scan"): scan,
    ("", "OptionalGetElement"): optional,
    ("", "OptionalHasElement"): has_element,
    ("", "SplitToSequence"): split_to_sequence,
    ("", "SequenceConstruct"): sequence_construct,
    ("", "SequenceEmpty"): sequence_empty,
    ("", "SequenceAt"): sequence_at,
    ("", "SequenceInsert"): sequence_insert,
    ("", "SequenceLength"): sequence_length,
    ("", "ConcatFromSequence"): concat_from_sequence,
}
