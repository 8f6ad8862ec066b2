"""An nn-level graph as plain data, for other processes: torch.fx itself sends Python source, which loses what nodes carry.

    Portable.of(graph_module)     picklable; its tensors are NumPy views, which joblib maps from a file and Ray keeps once
    portable.module()             the graph again
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from .names import register
from .nn import attribute

KEPT = ("layer", "site", "made_by")
"""What a node carries as plain data; `val` travels as shape and type."""


@dataclass(frozen=True)
class Ref:
    """A node, in the arguments of another."""

    name: str


@dataclass(frozen=True)
class Row:
    """A node. `target`: an operator of torch as "aten.add.Tensor"."""

    op: str
    name: str
    target: Any
    args: Any
    kwargs: Any
    shape: tuple[int, ...] | None
    dtype: str
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Portable:
    """A graph's rows, and its tensors by name."""

    rows: tuple[Row, ...]
    arrays: Mapping[str, np.ndarray[Any, Any]]

    @staticmethod
    def of(graph_module: fx.GraphModule) -> Portable:
        """The tensors are shared with the graph, not copied."""
        nodes = list(graph_module.graph.nodes)
        names = {str(node.target) for node in nodes if node.op == "get_attr"}
        arrays = {name: attribute(graph_module, name).detach().contiguous().numpy() for name in sorted(names)}
        return Portable(tuple(map(_row, nodes)), arrays)

    def module(self) -> fx.GraphModule:
        """The graph again, on the same tensors, which must not be written to."""
        graph, made, root = fx.Graph(), dict[str, fx.Node](), nn.Module()
        names = {name: register(root, name, tensor_of(array), trainable=False) for name, array in self.arrays.items()}
        for row in self.rows:
            args, kwargs = (_put_back(part, made) for part in (row.args, row.kwargs))
            target = _operator(row.target) if row.op == "call_function" else names.get(row.target, row.target)
            node = graph.create_node(row.op, target, args, kwargs, name=row.name)
            node.meta.update(row.meta)
            if row.shape is not None:
                node.meta["val"] = torch.empty(row.shape, dtype=getattr(torch, row.dtype), device="meta")
            made[row.name] = node
        return fx.GraphModule(root, graph)


def tensor_of(array: np.ndarray[Any, Any]) -> Tensor:
    """The array as a tensor on the same memory, which is only read: joblib maps it read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(array))


def _row(node: fx.Node) -> Row:
    value = node.meta.get("val")
    shape, dtype = (tuple(value.shape), str(value.dtype).removeprefix("torch.")) if isinstance(value, Tensor) else (None, "")
    meta = {key: node.meta[key] for key in KEPT if key in node.meta}
    return Row(node.op, node.name, str(node.target), _taken(node.args), _taken(node.kwargs), shape, dtype, meta)


def _taken(value: Any) -> Any:
    ref: Any = Ref  # no argument of a graph, as fx declares them
    return fx.node.map_arg(value, lambda node: ref(node.name))


def _put_back(value: Any, made: Mapping[str, fx.Node]) -> Any:
    return fx.node.map_aggregate(value, lambda one: made[one.name] if isinstance(one, Ref) else one)


def _operator(name: str) -> Any:
    """The operator called "aten.add.Tensor"."""
    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part)
    return found
