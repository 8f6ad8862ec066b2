"""Constants, shapes and ranges: all of these are known while the file is read."""

from __future__ import annotations

import torch
from onnx import TensorProto
from onnx.helper import make_tensor

from ..op import Op, Table, dtype_of, shape_of
from ..recorder import Value
from .arithmetic import CASTS


def constant(op: Op) -> Value:
    """A large float constant is a weight (Paddle writes all of them so)."""
    if op.has("value"):
        return op.read_tensor(op.attribute("value").t)
    for name in ("value_float", "value_floats"):
        if op.has(name):
            attribute = op.attribute(name)
            many = name == "value_floats"
            values = list(op.short(attribute.floats, name)) if many else [attribute.f]
            return op.read_tensor(make_tensor("", TensorProto.FLOAT, [len(values)] if many else [], values))
    for name in ("value_int", "value_ints"):
        if op.has(name):
            attribute = op.attribute(name)
            return torch.tensor(list(op.short(attribute.ints, name)) if name == "value_ints" else attribute.i, dtype=torch.int64)
    op.refuse("a sparse or text constant is not supported")


def constant_of_shape(op: Op, shape: Value) -> Value:
    value = op.attribute("value").t if op.has("value") else None
    filler = torch.zeros(1) if value is None else op.recorder.known(op.read_tensor(value))
    return torch.full(op.known_ints(shape, "the shape"), filler.reshape(-1)[0].item(), dtype=filler.dtype)


def shape(op: Op, x: Value) -> Value:
    """Since opset 15 also a part of it."""
    end = op.integer("end") if op.has("end") else None
    return torch.tensor(shape_of(x)[op.integer("start", 0) : end], dtype=torch.int64)


def size(op: Op, x: Value) -> Value:
    return torch.tensor(torch.Size(shape_of(x)).numel())


def range_(op: Op, start: Value, limit: Value, delta: Value) -> Value:
    first, last, step = (op.known(value, "a bound of the range") for value in (start, limit, delta))
    count = max(int(torch.ceil((last.double() - first.double()) / step.double())), 0)
    return first + torch.arange(count, dtype=first.dtype) * step


def eye_like(op: Op, x: Value) -> Value:
    rows, columns = shape_of(x)
    dtype = CASTS.get(op.integer("dtype"), dtype_of(x))
    places = torch.arange(columns)[None, :] - torch.arange(rows)[:, None]
    return (places == op.integer("k")).to(dtype)


OPERATORS: Table = {
    ("", "Constant"): constant,
    ("", "ConstantOfShape"): constant_of_shape,
    ("", "Shape"): shape,
    ("", "Size"): size,
    ("", "Range"): range_,
    ("", "EyeLike"): eye_like,
}
