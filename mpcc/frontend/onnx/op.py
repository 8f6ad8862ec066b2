"""One ONNX node while it is imported: its attributes, its version, and the means to append what it becomes.

An operator of the table is a function `(op, *inputs) -> value`, or a tuple of values for several outputs; an input that
the file leaves out is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import torch
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto
from torch import fx

from mpcc.errors import CaptureError, UnsupportedOperator

from ..limits import DEFAULT
from .recorder import Recorder, Value, aten

Handler = Callable[..., Any]
Table = dict[tuple[str, str], Handler]

MICROSOFT = "com.microsoft"
# Of a shape, axes, pads, the sizes of parts: lists as long as the rank or as the number of outputs.
MOST_INTEGERS = 1 << 16


@dataclass
class Op:
    """A node of the file.

    `version` is the opset of its domain, `weight` makes a parameter of a tensor that is computed from stored ones,
    `stored_type` is the ONNX type of an input that is an initialiser (0 for others), `most_parts` the most pieces that the
    node may cut or rounds that it may take.
    """

    node: NodeProto
    version: int
    recorder: Recorder
    read_tensor: Callable[[TensorProto], Value]
    run_graph: Callable[[GraphProto, dict[str, Any]], list[Any]]
    weight: Callable[[torch.Tensor], Value]
    stored_type: Callable[[int], int]
    most_parts: int = DEFAULT.nodes
    asked: set[str] = field(default_factory=set)

    # ------------------------------------------------------------------------------------------------- attributes

    @cached_property
    def _attributes(self) -> dict[str, AttributeProto]:
        return {attribute.name: attribute for attribute in self.node.attribute}

    def has(self, name: str) -> bool:
        self.asked.add(name)
        return name in self._attributes

    def attribute(self, name: str) -> AttributeProto:
        """An attribute that the node must have."""
        if not self.has(name):
            self.refuse(f"the attribute {name} is missing")
        return self._attributes[name]

    def _of_type(self, name: str, kind: int) -> AttributeProto | None:
        found = self._attributes[name] if self.has(name) else None
        if found is not None and found.type != kind:
            self.refuse(f"the attribute {name} is of the wrong type")
        return found

    def integer(self, name: str, default: int = 0) -> int:
        found = self._of_type(name, AttributeProto.INT)
        return default if found is None else int(found.i)

    def flag(self, name: str, default: bool = False) -> bool:
        """An integer that is 0 or 1."""
        value = self.integer(name, int(default))
        if value not in (0, 1):
            self.refuse(f"{name} is {value}, neither 0 nor 1")
        return bool(value)

    def axis(self, default: int, rank: int) -> int:
        """The attribute `axis`, counted from the front."""
        return self.front(self.integer("axis", default), rank)

    def front(self, axis: int, rank: int) -> int:
        """`axis` counted from the front; a number has one axis."""
        if not -max(rank, 1) <= axis < max(rank, 1):
            self.refuse(f"there is no axis {axis} among {rank}")
        return axis % rank if rank else 0

    def number(self, name: str, default: float = 0.0) -> float:
        found = self._of_type(name, AttributeProto.FLOAT)
        return default if found is None else float(found.f)

    def text(self, name: str, default: str = "") -> str:
        found = self._of_type(name, AttributeProto.STRING)
        return default if found is None else str(found.s.decode())

    def choice(self, name: str, default: str, *others: str) -> str:
        """A text that is `default` or one of `others`."""
        found = self.text(name, default)
        if found not in (default, *others):
            self.refuse(f"{name} is {found!r}, which is none of {', '.join((default, *others))}")
        return found

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        found = self._of_type(name, AttributeProto.INTS)
        return list(default) if found is None else list(self.short(found.ints, name))

    def numbers(self, name: str, default: Sequence[float] = ()) -> list[float]:
        found = self._of_type(name, AttributeProto.FLOATS)
        return list(default) if found is None else list(self.short(found.floats, name))

    def short(self, items: Sequence[Any], what: str) -> Sequence[Any]:
        """`items`, if they are no more than a list of sizes or coefficients has."""
        if len(items) > MOST_INTEGERS:
            self.refuse(f"{what} has {len(items):,} elements")
        return items

    def unasked(self) -> list[AttributeProto]:
        """The attributes that nobody asked for."""
        return [attribute for name, attribute in self._attributes.items() if name not in self.asked]

    def wants(self, output: int) -> bool:
        """Whether anyone may read that output."""
        return output < len(self.node.output) and bool(self.node.output[output])

    # ------------------------------------------------------------------------------------------------------ values

    def known(self, value: Value, what: str) -> torch.Tensor:
        """The tensor of an input that must not depend on the model's inputs."""
        try:
            return self.recorder.known(value)
        except CaptureError as error:
            raise CaptureError(
                f"{what} is known only when the model runs: {error.what}",
                where=self.where,
                hint="export the model with static shapes and without data-dependent control flow",
            ) from None

    def known_ints(self, value: Value, what: str) -> list[int]:
        found = self.known(value, what)
        if found.numel() > MOST_INTEGERS:
            self.refuse(f"{what} has {found.numel():,} elements")
        return [int(item) for item in found.reshape(-1).tolist()]

    def parts(self, count: int, what: str) -> int:
        """`count`, if it is no more than the graph may have nodes."""
        if not 0 <= count <= self.most_parts:
            self.refuse(f"{what} is {count:,}")
        return count

    def known_number(self, value: Value, what: str) -> float:
        return float(self.known(value, what).reshape(-1)[0].item())

    def axes(self, given: Value | None, rank: int) -> list[int] | None:
        """The axes, an input since opset 13 or 18 and an attribute before; None when the file has neither."""
        if given is not None:
            found = self.known_ints(given, "the input axes")
        elif self.has("axes"):
            found = self.integers("axes")
        else:
            return None
        return [self.front(axis, rank) for axis in found]

    # ---------------------------------------------------------------------------------------------- what it becomes

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Value:
        return self.recorder.call(target, *args, **kwargs)

    def add(self, x: Value, y: Value | float) -> Value:
        return self.binary(aten.add.Tensor, x, y)

    def sub(self, x: Value, y: Value | float) -> Value:
        return self.binary(aten.sub.Tensor, x, y)

    def mul(self, x: Value, y: Value | float) -> Value:
        return self.binary(aten.mul.Tensor, x, y)

    def binary(self, target: Any, x: Value, y: Value | float) -> Value:
        """A broadcasting operator whose second operand becomes a Python number if it is one known number."""
        return self.call(target, x, as_number(y, rank(x)) if isinstance(x, fx.Node) else as_tensor(y, x))

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return x if list(shape_of(x)) == list(shape) else self.call(aten.reshape.default, x, list(shape))

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        if is_call(x, aten.permute.default):
            source, first = x.args  # type: ignore[union-attr]
            return self.permute(source, [first[axis] for axis in order])  # type: ignore[arg-type, index, misc]
        return x if list(order) == list(range(len(order))) else self.call(aten.permute.default, x, list(order))

    def item(self, several: Any, place: int) -> Value:
        """One of the results of a call that gives several."""
        return self.recorder.item(several, place)

    def gather(self, x: Value, axis: int, indices: torch.Tensor) -> Value:
        """`x` at known 1-D indices along `axis`."""
        return self.call(aten.index.Tensor, x, [*[None] * axis, indices])

    # ------------------------------------------------------------------------------------------------------ errors

    @property
    def kind(self) -> str:
        return f"{self.node.domain}.{self.node.op_type}" if self.node.domain else str(self.node.op_type)

    @property
    def where(self) -> str:
        return describe(self.node, self.recorder.layer)

    def refuse(self, why: str, hint: str | None = None) -> NoReturn:
        raise UnsupportedOperator(f"{self.kind} (opset {self.version}): {why}", where=self.where, hint=hint)


def describe(node: NodeProto, layer: str) -> str:
    """How messages call a node: by its name, or by what it gives, and by the user's layer."""
    name = f"node {node.name}" if node.name else f"the node that gives {', '.join(node.output)}"
    return f"{name} in layer {layer}" if layer else name


def shape_of(value: Value) -> tuple[int, ...]:
    return tuple(value.meta["val"].shape if isinstance(value, fx.Node) else value.shape)


def dtype_of(value: Value) -> torch.dtype:
    dtype = value.meta["val"].dtype if isinstance(value, fx.Node) else value.dtype
    assert isinstance(dtype, torch.dtype)
    return dtype


def rank(value: Value) -> int:
    return len(shape_of(value))


def is_float(value: Value) -> bool:
    return dtype_of(value).is_floating_point


def is_call(value: Any, *targets: Any) -> bool:
    """Whether `value` is a node that calls one of `targets`."""
    return isinstance(value, fx.Node) and value.op == "call_function" and value.target in targets


def as_number(value: Value | float, most_dims: int) -> Value | float:
    """A known one-element tensor as a number, if dropping its dimensions changes no broadcast."""
    if isinstance(value, torch.Tensor) and value.numel() == 1 and value.dim() <= most_dims:
        return value.item()
    return value


def as_tensor(value: Value | float, like: torch.Tensor) -> Value:
    """A number as a tensor of the type of `like`; a value as it is."""
    return value if isinstance(value, (torch.Tensor, fx.Node)) else torch.tensor(value, dtype=like.dtype)
