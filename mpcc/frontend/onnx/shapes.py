"""The static shape of every model input: given, written in the file, or an error that says how to give it.

A batch dimension that has a name or nothing instead of a size becomes 1, if all other sizes of that input are written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import GraphProto, TensorProto, ValueInfoProto

from mpcc.errors import ShapeError

from ..fixed import Fixed
from ..limits import HINT
from .read import STORED, type_name

InputShapes = Mapping[str, Sequence[int]] | Sequence[Sequence[int]] | Sequence[int]
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
HALF = (torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Input:
    """A model input as it is captured: floats of every width become float32."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def inputs(
    graph: GraphProto, example_inputs: Any, input_shapes: InputShapes | None, most: int, fixed: Fixed | None = None
) -> list[Input]:
    """The inputs that are not initialisers (old files list these too).

    Examples: a tensor, a sequence in order, or a mapping by name; shapes: one, a sequence in order, or by name.
    """
    stored = {tensor.name for tensor in graph.initializer}
    infos = [info for info in graph.input if info.name not in stored]
    names = [info.name for info in infos]
    given = _by_name(names, _shapes_of_examples(example_inputs)) | _by_name(names, _shapes(input_shapes))
    given |= {name: tuple(value.shape) for name, value in (fixed or {}).items() if isinstance(value, torch.Tensor)}
    found = [Input(info.name, _shape(info, given.get(info.name)), _dtype(info, graph)) for info in infos]
    for one in found:
        if math.prod(one.shape) > most:
            raise ShapeError(f"the input {one.name} has {math.prod(one.shape):,} elements, more than {most:,}", hint=HINT)
    return found


Shapes = Mapping[str, tuple[int, ...]] | list[tuple[int, ...]]


def _shapes_of_examples(examples: Any) -> Shapes:
    if examples is None:
        return []
    if isinstance(examples, Mapping):
        return {name: tuple(example.shape) for name, example in examples.items()}
    return [tuple(example.shape) for example in (examples if isinstance(examples, (tuple, list)) else [examples])]


def _shapes(shapes: InputShapes | None) -> Shapes:
    if shapes is None:
        return []
    if isinstance(shapes, Mapping):
        return {name: tuple(shape) for name, shape in shapes.items()}
    one = [size for size in shapes if isinstance(size, int)]
    return [tuple(one)] if one else [tuple(shape) for shape in shapes if not isinstance(shape, int)]


def _by_name(names: Sequence[str], shapes: Shapes) -> dict[str, tuple[int, ...]]:
    if not shapes:
        return {}
    if not isinstance(shapes, Mapping):
        if len(shapes) != len(names):
            raise ShapeError(f"{len(shapes)} shapes for the {len(names)} inputs of the model: {', '.join(names)}")
        return dict(zip(names, shapes, strict=True))
    strangers = sorted(set(shapes) - set(names))
    if strangers:
        raise ShapeError(f"the model has no input {', '.join(strangers)}", hint=f"its inputs are: {', '.join(names)}")
    return dict(shapes)


def _shape(info: ValueInfoProto, given: tuple[int, ...] | None) -> tuple[int, ...]:
    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type"):
        raise ShapeError(f"the input {info.name} is not a tensor")
    if not tensor.HasField("shape"):
        if given is None:
            raise _unknown(info, "its shape is not written in the file", (1, 3, 224, 224))
        return given
    written = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim]
    if given is not None:
        return _agree(info, written, given)
    if written[1:].count(None) == 0:
        return tuple(1 if size is None else size for size in written)
    names = [dim.dim_param or str(dim.dim_value or "?") for dim in tensor.shape.dim]
    guess = tuple(size if size is not None else _guess(place) for place, size in enumerate(written))
    raise _unknown(info, f"its shape ({', '.join(names)}) is not static", guess)


def _guess(place: int) -> int:
    """What an image has there: batch, channels, height, width."""
    return (1, 3, 224, 224)[place] if place < 4 else 1


def _agree(info: ValueInfoProto, written: Sequence[int | None], given: tuple[int, ...]) -> tuple[int, ...]:
    fits = len(written) == len(given) and all(
        size is None or size == want for size, want in zip(written, given, strict=True)
    )
    if not fits:
        text = ", ".join("?" if size is None else str(size) for size in written)
        raise ShapeError(
            f"the input {info.name} was exported with the shape ({text}), not {given}",
            hint="give that shape, or export the model again",
        )
    return given


def _unknown(info: ValueInfoProto, why: str, guess: tuple[int, ...]) -> ShapeError:
    command = ",".join(str(size) for size in guess)
    return ShapeError(
        f"the input {info.name} needs a static shape: {why}",
        where=f"input {info.name}",
        hint=f'give it: input_shapes={{"{info.name}": {guess}}} or --input-shape {info.name}={command}',
    )


def _dtype(info: ValueInfoProto, graph: GraphProto) -> torch.dtype:
    kind = info.type.tensor_type.elem_type
    if kind not in STORED:
        raise ShapeError(f"the input {info.name} has the type {type_name(kind)}, which mpcc does not read")
    dtype = STORED[kind]
    return torch.float32 if dtype in HALF or _only_cast(info.name, graph) else dtype


def _only_cast(name: str, graph: GraphProto) -> bool:
    """Whether all that the model does with an input is to cast it to floats (the bytes of an image)."""
    readers = [node for node in graph.node if name in node.input]
    return bool(readers) and all(
        node.op_type == "Cast" and any(attribute.i in FLOATS for attribute in node.attribute) for node in readers
    )
