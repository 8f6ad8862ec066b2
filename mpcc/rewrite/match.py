"""Finding subgraphs: a pattern is written as the code that it finds, and says why it does not match.

    pattern = Pattern(lambda e, r, v: mpc.matmul(mpc.mul(e, r), v), skip={mpc.scale})
    found = pattern.match(node)          # Match(e=..., r=..., v=...) or Refusal(node, reason)

The function's parameters match any operand (a node or a number), the same parameter twice must match the same
operand. Sums and products match in both orders. Nodes with a target in `skip` are passed over where the pattern wants
another operator; `Match.skipped` keeps them. Only one reader may depend on an inner node unless `shared` is set.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mpcc.ir import mpc

from .edit import Refusal

aten = torch.ops.aten
# The parameters of the primitives that are also called with keywords.
PARAMETERS = {mpc.sum: ("x", "dims", "keepdim"), mpc.scale: ("x", "factor"), mpc.linear: ("x", "weight", "bias")}
COMMUTATIVE = frozenset({mpc.add, mpc.mul, aten.add.Tensor, aten.mul.Tensor})


@dataclass(frozen=True)
class Match:
    """The operands by the pattern's parameter names; the nodes found and those skipped, outermost first."""

    operands: Mapping[str, Any]
    inner: tuple[fx.Node, ...]
    skipped: tuple[fx.Node, ...]

    def __getitem__(self, name: str) -> Any:
        return self.operands[name]


@dataclass(frozen=True)
class _State:
    operands: Mapping[str, Any]
    inner: tuple[fx.Node, ...] = ()
    skipped: tuple[fx.Node, ...] = ()


class Pattern:
    """A small graph to be found; see the top of this file."""

    def __init__(self, function: Callable[..., Any], skip: Iterable[Any] = (), shared: bool = False) -> None:
        graph = fx.Graph()
        tracer = fx.proxy.GraphAppendingTracer(graph)
        symbols = [fx.Proxy(graph.placeholder(name), tracer) for name in inspect.signature(function).parameters]
        self.root: fx.Node = function(*symbols).node
        self.skip, self.shared = frozenset(skip), shared

    def match(self, node: fx.Node) -> Match | Refusal:
        """The operands at which the pattern's result is what `node` computes, or why there are none."""
        found = self._match(self.root, node, _State({}), None)
        return found if isinstance(found, Refusal) else Match(found.operands, found.inner, found.skipped)

    def _match(self, want: Any, have: Any, state: _State, reader: fx.Node | None) -> _State | Refusal:
        if isinstance(want, fx.Node) and want.op == "placeholder":
            return _bind(want.name, have, state, reader)
        if not isinstance(want, fx.Node):
            return state if _same_value(want, have) else Refusal(_at(have, reader), f"{have} is not {want}")
        if not isinstance(have, fx.Node):
            return Refusal(_at(have, reader), f"{have} is no node")
        if reader is not None and not self.shared and set(have.users) != {reader}:
            return Refusal(have, f"read by {len(have.users)} nodes")
        if have.target is not want.target:
            if have.target in self.skip and isinstance(have.args[0], fx.Node):
                passed = _State(state.operands, state.inner, (*state.skipped, have))
                return self._match(want, have.args[0], passed, have)
            return Refusal(have, f"computes {_name(have)}, not {_name(want)}")
        return self._operands(want, have, _State(state.operands, (*state.inner, have), state.skipped))

    def _operands(self, want: fx.Node, have: fx.Node, state: _State) -> _State | Refusal:
        args = positional(have)
        if len(args) < len(want.args):
            return Refusal(have, f"has {len(args)} arguments, not {len(want.args)}")
        first = self._in_order(want.args, args, state, have)
        if not isinstance(first, Refusal) or want.target not in COMMUTATIVE:
            return first
        second = self._in_order(want.args, (args[1], args[0]), state, have)
        return first if isinstance(second, Refusal) else second

    def _in_order(self, want: Any, have: Any, state: _State, reader: fx.Node) -> _State | Refusal:
        for w, h in zip(want, have, strict=False):
            after = self._match(w, h, state, reader)
            if isinstance(after, Refusal):
                return after
            state = after
        return state


def positional(node: fx.Node) -> tuple[Any, ...]:
    """The arguments of a call in order, those given by keyword too."""
    names = PARAMETERS.get(node.target, ())[len(node.args) :]  # type: ignore[arg-type]
    return (*node.args, *(node.kwargs[name] for name in names if name in node.kwargs))


def _bind(name: str, have: Any, state: _State, reader: fx.Node | None) -> _State | Refusal:
    if name in state.operands and state.operands[name] is not have:
        return Refusal(_at(have, reader), f"{have} is not {state.operands[name]}, as {name} elsewhere")
    return _State({**state.operands, name: have}, state.inner, state.skipped)


def _same_value(want: Any, have: Any) -> bool:
    """Equal; floats to six digits, since files keep constants in float32; lists and tuples alike."""
    if isinstance(want, (int, float)) and isinstance(have, (int, float)):
        return math.isclose(want, have, rel_tol=1e-6)
    if isinstance(want, (list, tuple)) and isinstance(have, (list, tuple)):
        return len(want) == len(have) and all(_same_value(w, h) for w, h in zip(want, have, strict=True))
    return bool(want == have)


def _at(have: Any, reader: fx.Node | None) -> fx.Node:
    node = have if isinstance(have, fx.Node) else reader
    assert node is not None
    return node


def _name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target)) if node.op == "call_function" else node.op
