"""The graph that is being made from an ONNX file: known values are computed at once, the rest becomes fx nodes.

    recorder.call(aten.add.Tensor, tensor, tensor) -> tensor      both known: computed now
    recorder.call(aten.add.Tensor, node, tensor)   -> node        appended, with `val` (a meta tensor) and `layer`

So shape arithmetic vanishes without rules of its own, and shapes are always plain integers. torch.export would record
the same graph from an interpreter module, but takes twice what onnxruntime takes to load a ViT-B/16 (.9 s against
.4 s); appending nodes takes a tenth.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from mpcc.errors import CaptureError
from mpcc.ir.names import check_names, free_name, identifier, register, safe_path

aten = torch.ops.aten
Value = torch.Tensor | fx.Node
# Results of the shape and type of the first argument: asking torch for it takes .5 ms for a layer norm.
LIKE_FIRST = {
    aten.layer_norm.default, aten.rms_norm.default, aten.group_norm.default, aten.softmax.int, aten.gelu.default,
    aten.relu.default, aten.sigmoid.default, aten.tanh.default, aten.silu.default, aten.erf.default, aten.exp.default,
    aten.sqrt.default, aten.neg.default,
}  # fmt: skip


class Recorder:
    """Appends to `graph`; what `get_attr` nodes name is in `stored` until `finish` registers what is used."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.layer = ""
        self.stored: dict[str, torch.Tensor] = {}
        self.buffers: set[str] = set()
        self._lifted: dict[int, tuple[torch.Tensor, fx.Node]] = {}
        self._known: dict[fx.Node, torch.Tensor] = {}

    def placeholder(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> fx.Node:
        node = self.graph.placeholder(identifier(name, "input"))
        node.meta.update(val=torch.empty(shape, dtype=dtype, device="meta"), layer="")
        return node

    def stored_node(self, name: str, tensor: torch.Tensor, *, trainable: bool) -> fx.Node:
        """The node of a new parameter or buffer; `name` is its dotted name, made unique."""
        free = free_name(safe_path(name) or "constant", self.stored.__contains__)
        tensor = tensor.float() if tensor.dtype == torch.float64 else tensor
        self.stored[free] = tensor
        if not trainable:
            self.buffers.add(free)
        node = self.graph.create_node("get_attr", free)
        node.meta.update(val=_meta(tensor), layer=free.rpartition(".")[0])
        return node

    def lift(self, value: Value) -> fx.Node:
        """The node of a value; a known tensor becomes a buffer of the current layer."""
        if isinstance(value, fx.Node):
            return value
        if id(value) not in self._lifted:
            name = f"{self.layer}.constant" if self.layer else "constant"
            self._lifted[id(value)] = (value, self.stored_node(name, value, trainable=False))
        return self._lifted[id(value)][1]

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Value:
        """The value of `target`: computed if every argument is known, else a new node. Keywords are plain values."""
        if not _has_nodes(args):
            with torch.no_grad():
                return target(*_same_precision(args), **kwargs)  # type: ignore[no-any-return]
        node = self.graph.call_function(target, _map(args, self._lift_tensor), kwargs)
        metas: Any = fx.node.map_arg(node.args, lambda argument: argument.meta["val"])
        node.meta.update(val=metas[0] if target in LIKE_FIRST else target(*metas, **kwargs), layer=self.layer)
        return node

    def item(self, several: fx.Node, place: int) -> Value:
        """One of the results of a node that gives several."""
        node = self.graph.call_function(operator.getitem, (several, place))
        node.meta.update(val=several.meta["val"][place], layer=self.layer)
        return node

    def _lift_tensor(self, item: Any) -> Any:
        return self.lift(item) if isinstance(item, torch.Tensor) else item

    def known(self, value: Value) -> torch.Tensor:
        """The tensor of a value that depends on no input; CaptureError if it does."""
        if isinstance(value, torch.Tensor):
            return value
        if value not in self._known:
            self._known[value] = self._evaluate(value)
        return self._known[value]

    def _evaluate(self, node: fx.Node) -> torch.Tensor:
        if node.op == "get_attr":
            return self.stored[str(node.target)]
        if node.op == "placeholder":
            raise CaptureError(f"it depends on the values of the input {node.target}")
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.known)
        assert callable(node.target)
        with torch.no_grad():
            return node.target(*args, **kwargs)  # type: ignore[no-any-return]

    def is_known(self, value: Value) -> bool:
        """Whether `value` depends on no input."""
        try:
            self.known(value)
        except CaptureError:
            return False
        return True

    def finish(self) -> fx.GraphModule:
        """The graph module, with the parameters and buffers that are used under their dotted names."""
        self.graph.eliminate_dead_code()
        root = torch.nn.Module()
        for node in list(self.graph.nodes):
            if node.op == "get_attr":
                name = str(node.target)
                node.target = register(root, name, self.stored[name], trainable=name not in self.buffers)
        check_names(self.graph)
        module = fx.GraphModule(root, self.graph)
        module.training = False
        return module


def _meta(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def _has_nodes(items: Any) -> bool:
    return any(isinstance(item, fx.Node) or (isinstance(item, (list, tuple)) and _has_nodes(item)) for item in items)


def _map(item: Any, function: Any) -> Any:
    if isinstance(item, (list, tuple)):
        return type(item)(_map(inner, function) for inner in item)
    return function(item)


def _same_precision(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Known doubles meet known floats where the file's casts to double were dropped: the floats become doubles."""
    if not any(isinstance(item, torch.Tensor) and item.dtype == torch.float64 for item in args):
        return args
    return tuple(
        item.double() if isinstance(item, torch.Tensor) and item.dtype == torch.float32 else item for item in args
    )
