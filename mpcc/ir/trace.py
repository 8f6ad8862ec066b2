"""Recording mpc-level graphs: run a function over the primitives on symbols that know their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
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

    @contextmanager
    def noting(self, **meta: Any) -> Iterator[None]:
        """Nodes recorded meanwhile have this metadata as well."""
        before = self.extra
        self.extra = {**before, **meta}
        try:
            yield
        finally:
            self.extra = before

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run `function` with nodes replaced by symbols; give the node(s) of its result."""
        result = function(*self._wrap(args), **self._wrap(kwargs))
        return fx.node.map_aggregate(result, lambda v: v.node if isinstance(v, fx.Proxy) else v)

    def _wrap(self, value: Any) -> Any:
        return fx.node.map_aggregate(value, lambda v: self.proxy(v) if isinstance(v, fx.Node) else v)  # type: ignore[arg-type, return-value]


def infer(node: fx.Node) -> Any:
    """The meta tensor that `node` gives, from those of its arguments.

    Equal calls are inferred once: the blocks of a model repeat, and one inference through torch takes milliseconds.
    """
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: meta_of(n))
    assert callable(node.target)
    return _inferred(_Call(node.target, args, kwargs))


class _Call:
    """A call on meta tensors, equal to another whose result has the same shape and dtype whatever the numbers are."""

    def __init__(self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.target, self.args, self.kwargs = target, args, kwargs
        self.key = (target, _key(args), _key(kwargs))
        self.hash = hash(self.key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Call) and self.key == other.key


@lru_cache(maxsize=1 << 14)
def _inferred(call: _Call) -> Any:
    return call.target(*call.args, **call.kwargs)


def _key(value: Any) -> Any:
    """Hashable. Integers count, since they are sizes and dimensions; the value of a float never decides a shape."""
    if isinstance(value, torch.Tensor):
        return (torch.Tensor, value.dtype, tuple(value.shape), value.stride())
    if isinstance(value, float):
        return float
    if isinstance(value, slice):
        return (slice, value.start, value.stop, value.step)
    if isinstance(value, (list, tuple)):
        return tuple(_key(v) for v in value)
    if isinstance(value, Mapping):
        return tuple((name, _key(v)) for name, v in value.items())
    return (type(value), value)


def meta_of(node: fx.Node) -> torch.Tensor:
    """The value of `node` as a meta tensor (shape and dtype, no storage)."""
    value = node.meta["val"]
    return value if value.device.type == "meta" else torch.empty(value.shape, dtype=value.dtype, device="meta")
