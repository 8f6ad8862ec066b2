"""Recording mpc-level graphs: run a function over the primitives on symbols that know their shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx


class Symbol(fx.Proxy):
    """A value being recorded; unlike a bare Proxy it has a static shape and dtype."""

    @property
    def shape(self) -> torch.Size:
        return self.node.meta["val"].shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return self.node.meta["val"].dtype  # type: ignore[no-any-return]

    def dim(self) -> int:
        return len(self.shape)


class Recorder(fx.proxy.GraphAppendingTracer):
    """Appends nodes to `graph`, each with `meta["val"]` (a meta tensor) and the given metadata."""

    def __init__(self, graph: fx.Graph, meta: Mapping[str, Any] | None = None) -> None:
        super().__init__(graph)
        self.extra = dict(meta or {})

    def proxy(self, node: fx.Node) -> Symbol:
        return Symbol(node, self)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        if kind == "call_function":
            node.meta["val"] = infer(node)
        node.meta.update(self.extra)
        return node

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run `function` with nodes replaced by symbols; give the node(s) of its result."""
        result = function(*self._wrap(args), **self._wrap(kwargs))
        return fx.node.map_aggregate(result, lambda v: v.node if isinstance(v, fx.Proxy) else v)

    def _wrap(self, value: Any) -> Any:
        return fx.node.map_aggregate(value, lambda v: self.proxy(v) if isinstance(v, fx.Node) else v)  # type: ignore[arg-type, return-value]


def infer(node: fx.Node) -> Any:
    """The meta tensor that `node` gives, from those of its arguments."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: meta_of(n))
    assert callable(node.target)
    return node.target(*args, **kwargs)


def meta_of(node: fx.Node) -> torch.Tensor:
    """The value of `node` as a meta tensor (shape and dtype, no storage)."""
    value = node.meta["val"]
    return value if value.device.type == "meta" else torch.empty(value.shape, dtype=value.dtype, device="meta")
