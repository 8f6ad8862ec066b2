"""The graph that is being made: emits canonical nodes with their metadata, computes constants at once.

`do` is the door for every operator: known arguments are computed now, others go through the rules. `emit` appends a
node as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from mpcc.errors import CaptureError
from mpcc.ir.names import identifier, register
from mpcc.ir.nn import MADE_OF, OPERATORS, meta_tensor

from .number_kinds import WHOLE, whole_tensor
from .values import Complex, Constant, Decline, Operand, Rule, Value, known, leaves, plain, shape, sources_of

aten = torch.ops.aten

# Computed lazily on parameters, so that these keep their names and shapes. They cost nothing in secure computation.
VIEWS = {
    *("reshape", "view", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as"),
    *("permute", "transpose", "t", "movedim", "swapaxes", "numpy_T", "mT", "T"),
    *("expand", "expand_as", "repeat", "cat", "concat", "stack", "constant_pad_nd", "roll", "flip"),
    *("slice", "select", "narrow", "index", "index_select", "unbind", "split", "split_with_sizes", "chunk"),
}

IDENTITIES = {
    *("contiguous", "clone", "alias", "detach", "detach_", "lift", "lift_fresh", "lift_fresh_copy", "requires_grad_"),
    *("dropout", "dropout_", "feature_dropout", "alpha_dropout"),
}


class Builder:
    """Appends to `graph`; parameters and constants that nodes use are registered on `root`."""

    def __init__(self, rules: Mapping[Any, Rule], rewrite_complex: Rule) -> None:
        self.rules = rules
        self.rewrite_complex = rewrite_complex
        self.root = torch.nn.Module()
        self.graph = fx.Graph()
        self.layer = ""
        self.made_by: tuple[str, ...] = ()
        self._attributes: dict[str, fx.Node] = {}
        self._constants: dict[int, tuple[Constant, fx.Node]] = {}
        self._shapes: dict[Any, Any] = {}

    # ------------------------------------------------------------------------------------------------- operators

    def do(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        """The value of `target` on these arguments: computed if they are known, else in canonical operators."""
        if known((args, kwargs)):
            return self.compute(target, args, kwargs)
        return self.rewrite(target, args, kwargs)

    def rewrite(self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Apply the rule of `target`; an operator without one, or a case that its rule declines, stays as it is."""
        rule = self.rules.get(target)
        if rule is None and not has_complex(args):
            return self.emit(target, *args, **kwargs)
        try:
            if rule is None or has_complex(args):
                return self.rewrite_complex(self, target, args, kwargs)
            return rule(self, *args, **kwargs)
        except Decline as why:
            node = self.emit(target, *args, **kwargs)
            node.meta["declined"] = str(why)
            return node

    def compute(self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], written: bool = False) -> Any:
        """Run `target` now. Views of parameters also remember how to be rebuilt, unless their memory is written."""
        sources = [item for item in leaves((args, dict(kwargs))) if isinstance(item, Constant)]
        name = operator_name(target)
        trainable = [source for source in sources if source.trainable]
        if trainable and name in IDENTITIES and not written:
            return sources[0]
        if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()) and name not in IDENTITIES:
            warnings.warn(f"{name} in layer {self.layer or 'of the model'}: what it drew now is kept", stacklevel=2)
        with torch.no_grad():
            result = target(*plain(args), **plain(dict(kwargs)))
        stem = next((source.stem for source in trainable or sources if source.stem), None)
        same = (
            trainable and name == "to" and isinstance(result, torch.Tensor) and result.dtype == sources[0].value.dtype
        )
        if same and not written:
            return sources[0]
        made_of = sources_of(*sources)
        lazy, assumed = bool(trainable) and name in VIEWS and not written, any(source.assumed for source in sources)

        def wrap(item: Any, place: tuple[int, ...]) -> Any:
            if isinstance(item, (list, tuple)):
                return [wrap(inner, (*place, i)) for i, inner in enumerate(item)]
            if not isinstance(item, torch.Tensor):
                return item
            trains = bool(trainable) and item.is_floating_point()
            made = Constant(item, stem=stem, trainable=trains, written=written, assumed=assumed, made_of=made_of)
            if lazy:
                made.rebuild = lambda: self._rebuild(target, args, kwargs, place)
            return made

        return wrap(result, ())

    def _rebuild(
        self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], place: tuple[int, ...]
    ) -> fx.Node:
        def parameters_to_nodes(item: Any) -> Any:
            if isinstance(item, (list, tuple)):
                return type(item)(parameters_to_nodes(inner) for inner in item)
            return self.node(item) if isinstance(item, Constant) and item.trainable else item

        result = self.rewrite(target, parameters_to_nodes(args), {k: parameters_to_nodes(v) for k, v in kwargs.items()})
        for i in place:
            result = result[i]
        return self.node(result)

    def emit(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Append a call of `target`; constants among the arguments become parameters or buffers."""
        if target is not aten.index.Tensor:  # whose indices alone stay whole numbers
            args, kwargs = _floating(args), _floating(kwargs)
        args, kwargs = self._nodes(args), self._nodes(kwargs)
        node = self.graph.call_function(target, args, kwargs)
        node.meta["layer"] = self.layer
        node.meta["made_by"] = self.made_by
        node.meta["val"] = self._inferred(target, args, kwargs)
        return node

    def _inferred(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Shape and type of a call; equal calls are inferred once, for a network repeats its blocks."""
        key = (target, _signature(args), _signature(kwargs))
        if key not in self._shapes:
            metas, named = fx.node.map_arg((args, kwargs), lambda n: n.meta["val"])
            self._shapes[key] = target(*metas, **named) if target in OPERATORS else _foreign(target, metas, named)
        return self._shapes[key]

    def _nodes(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(self._nodes(item) for item in value)
        if isinstance(value, dict):
            return {key: self._nodes(item) for key, item in value.items()}
        return self.node(value) if isinstance(value, Constant) else value

    # ------------------------------------------------------------------------------------- inputs and constants

    def placeholder(self, name: str, value: torch.Tensor) -> fx.Node:
        node = self.graph.placeholder(identifier(name, "input"))
        node.meta.update(val=meta_tensor(value), layer="", made_by=())
        return node

    def node(self, value: Value) -> fx.Node:
        """The node of a value; a constant is registered under its own name, or one made from its origin's."""
        if isinstance(value, fx.Node):
            return value
        if id(value) in self._constants:
            return self._constants[id(value)][1]
        node = value.rebuild() if value.rebuild is not None else self._attribute(value)
        if not value.written:
            self._constants[id(value)] = (value, node)
        return node

    def _attribute(self, constant: Constant) -> fx.Node:
        name = constant.name or self._stem(constant)
        if constant.name in self._attributes:
            return self._attributes[constant.name]
        tensor = constant.value.detach().clone(memory_format=torch.contiguous_format)
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
            refuse_nan(name, tensor)
        name = register(self.root, name, tensor, trainable=constant.trainable)
        node = self.graph.create_node("get_attr", name)
        node.meta.update(val=meta_tensor(tensor), layer=self.layer, made_by=())
        node.meta[MADE_OF] = constant.sources
        if not constant.trainable and constant.name is None and whole_tensor(tensor):
            node.meta[WHOLE] = True
        if constant.name is not None:
            self._attributes[constant.name] = node
        return node

    def _stem(self, constant: Constant) -> str:
        if constant.stem:
            return f"{constant.stem}_folded"
        return f"{self.layer}.constant" if self.layer else "constant"

    # ---------------------------------------------------------------------- the operators that rules use most

    def add(self, x: Operand, y: Operand) -> Any:
        return self.do(aten.add.Tensor, x, y)

    def sub(self, x: Operand, y: Operand) -> Any:
        return self.do(aten.sub.Tensor, x, y)

    def mul(self, x: Operand, y: Operand) -> Any:
        return self.do(aten.mul.Tensor, x, y)

    def reshape(self, x: Value, to: Sequence[int]) -> Any:
        return self.do(aten.reshape.default, x, list(to))

    def permute(self, x: Value, order: Sequence[int]) -> Any:
        return self.do(aten.permute.default, x, list(order))

    def swap(self, x: Value, first: int, second: int) -> Any:
        """`x` with two axes exchanged."""
        order = list(range(len(shape(x))))
        order[first], order[second] = order[second], order[first]
        return self.permute(x, order)

    def expand(self, x: Value, to: Sequence[int]) -> Any:
        return self.do(aten.expand.default, x, list(to))

    def slice(self, x: Value, dim: int, start: int, end: int, step: int = 1) -> Any:
        return self.do(aten.slice.Tensor, x, dim, start, end, step)

    def select(self, x: Value, dim: int, index: int) -> Any:
        return self.do(aten.select.int, x, dim, index)

    def cat(self, parts: Sequence[Value], dim: int) -> Any:
        return self.do(aten.cat.default, list(parts), dim)

    def matmul(self, x: Value, y: Value) -> Any:
        return self.do(aten.matmul.default, x, y)

    def mean(self, x: Value, dims: Sequence[int], keepdim: bool = False) -> Any:
        return self.do(aten.mean.dim, x, list(dims), keepdim)

    def sum(self, x: Value, dims: Sequence[int], keepdim: bool = False) -> Any:
        return self.do(aten.sum.dim_IntList, x, list(dims), keepdim)

    def gather(self, x: Value, dim: int, indices: torch.Tensor) -> Any:
        """`x` at constant 1-D `indices` along `dim`."""
        return self.do(aten.index.Tensor, x, [*[None] * dim, Constant(indices.to(torch.int64))])


def has_complex(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return isinstance(value, Complex) or any(has_complex(item) for item in value)
    return isinstance(value, Constant) and value.value.is_complex()


def _floating(value: Any) -> Any:
    """Constants of whole numbers and truth values as floats, which is what they are mixed with."""
    if isinstance(value, (list, tuple)):
        return type(value)(_floating(item) for item in value)
    if isinstance(value, dict):
        return {key: _floating(item) for key, item in value.items()}
    if isinstance(value, Constant) and not value.value.is_floating_point():
        return value.became(value.value.float())
    return value


def _signature(value: Any) -> Any:
    """What of an argument decides about shapes, hashable."""
    if isinstance(value, fx.Node):
        meta = value.meta["val"]
        return ("node", tuple(meta.shape), meta.dtype) if isinstance(meta, torch.Tensor) else ("node", id(value))
    if isinstance(value, (list, tuple)):
        return tuple(_signature(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _signature(item)) for key, item in value.items())
    return (type(value).__name__, str(value))


def operator_name(target: Any) -> str:
    """`reshape` for aten.reshape.default; empty for what is not an operator."""
    schema = getattr(target, "_schema", None)
    return str(schema.name).rpartition("::")[2] if schema is not None else ""


def refuse_nan(name: str, tensor: torch.Tensor) -> None:
    """CaptureError if a weight is not a number. A sum is the cheapest look at all of them."""
    if tensor.sum().isnan() and tensor.isnan().any():
        count = int(tensor.isnan().sum())
        raise CaptureError(f"{count} of its {tensor.numel()} values are NaN", where=f"parameter {name}")


def _foreign(target: Any, args: Any, kwargs: Any) -> Any:
    """The shapes of an operator outside the table: it is only carried until a rule raises it, or reported."""
    try:
        return target(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError):
        return torch.empty((), device="meta")
