"""What an operator's arguments are while a graph is rewritten: nodes of the new graph, or constants known already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import fx


@dataclass(eq=False)
class Constant:
    """A tensor that depends on no input. It enters the graph only where an operator mixes it with an input.

    `name` is its dotted name if it is a parameter or buffer of the model; `stem` the name that a value computed from it
    gets; `rebuild` makes its node from views of a parameter, so that the parameter itself stays trainable and keeps its
    checkpoint name. The memory of a `written` one is changed by in-place operators: it has no name and no node to keep.
    An `assumed` one answers a question about NaN or infinity, which fixed point has not: it is never an output.
    `made_of` are the parameters and buffers that a nameless one was computed from; None where nobody kept track.
    """

    value: torch.Tensor
    name: str | None = None
    stem: str | None = None
    trainable: bool = False
    rebuild: Callable[[], fx.Node] | None = None
    written: bool = False
    assumed: bool = False
    made_of: frozenset[str] | None = None

    @property
    def sources(self) -> frozenset[str] | None:
        """The parameters and buffers whose values are in this one."""
        return frozenset({self.name}) if self.name is not None else self.made_of

    def became(self, value: torch.Tensor, *, trainable: bool = False, written: bool = False) -> Constant:
        """A nameless constant that was computed from this one alone."""
        return Constant(value, stem=self.stem, trainable=trainable, written=written, made_of=self.sources)


def sources_of(*constants: Constant | None) -> frozenset[str] | None:
    """What values computed from these constants are made of; None where that of one is unknown."""
    found = [constant.sources for constant in constants if constant is not None]
    return None if None in found else frozenset().union(*(one for one in found if one is not None))


class Complex(tuple[Any, ...]):
    """(real part, imaginary part), each a value or a number: what a secret complex tensor is until it is real again."""


Value = fx.Node | Constant
Operand = Value | float | int
Rule = Callable[..., Any]
Rules = dict[Any, Rule]


class Decline(Exception):
    """Raised by a rule for a case that has no canonical form; the text says why."""


def shape(value: Value) -> tuple[int, ...]:
    """The static shape of a node or constant."""
    return tuple(value.value.shape if isinstance(value, Constant) else value.meta["val"].shape)


def dtype(value: Value) -> torch.dtype:
    """The element type of a node or constant."""
    found = value.value.dtype if isinstance(value, Constant) else value.meta["val"].dtype
    assert isinstance(found, torch.dtype)
    return found


def common_shape(*values: Any) -> tuple[int, ...]:
    """What broadcasting makes of the shapes of nodes and constants; numbers do not count."""
    broadcast: Any = torch.broadcast_shapes
    return tuple(broadcast(*(shape(value) for value in values if isinstance(value, (fx.Node, Constant)))))


def rank(value: Value) -> int:
    return len(shape(value))


def axis(dim: int, of: Value | int) -> int:
    """`dim` counted from the front."""
    count = of if isinstance(of, int) else rank(of)
    return dim + count if dim < 0 else dim


def called(value: Any, *targets: Any) -> TypeGuard[fx.Node]:
    """Whether `value` is a node that calls one of `targets`."""
    return isinstance(value, fx.Node) and value.op == "call_function" and value.target in targets


def known(value: Any) -> bool:
    """Whether nothing in `value` depends on an input."""
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return not found


def plain(value: Any) -> Any:
    """`value` with constants replaced by their tensors."""
    return _map(value, lambda item: item.value if isinstance(item, Constant) else item)


def leaves(value: Any) -> list[Any]:
    """The items of nested lists, tuples and mappings, in order."""
    found: list[Any] = []
    _map(value, found.append)
    return found


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_map(item, function) for item in value)
    if isinstance(value, dict):
        return {key: _map(item, function) for key, item in value.items()}
    return function(value)
