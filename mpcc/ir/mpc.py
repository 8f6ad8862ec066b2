"""The mpc level: arithmetic on secret values, the language in which every approximation is written once.

Each primitive is a plain function. On float tensors it computes (the reference); on a `torch.fx.Proxy` it records a
node (the expansion); its cost, its secure form and its range are read off that node. The second operand of `add` and
`sub` may be a public number. Views (`reshape`, `permute`, `expand`, slices, `cat` ...) are the ATen operators themselves.

Weights are ordinary tensors here; that they belong to the server is known from their `get_attr` node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function

from .public_mask import mask_of

PRIMITIVES: dict[str, Callable[..., Any]] = {}


def _primitive(function: Callable[..., Any]) -> Callable[..., Any]:
    """Record `function` in the table of primitives and let tracers see its calls."""
    name = function.__name__.rstrip("_")

    def call(*args: Any, **kwargs: Any) -> Any:
        tensors = [a for a in (*args, *kwargs.values()) if hasattr(type(a), "__torch_function__")]
        if has_torch_function(tensors):
            return handle_torch_function(call, tensors, *args, **kwargs)
        return function(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__module__ = function.__doc__, __name__
    PRIMITIVES[name] = call
    return call


@_primitive
def add(x: Any, y: Any) -> Any:
    """x + y, broadcast; `y` may be a public number. Local."""
    return x + y


@_primitive
def sub(x: Any, y: Any) -> Any:
    """x - y, broadcast; `y` may be a public number. Local."""
    return x - y


@_primitive
def scale(x: Any, factor: float) -> Any:
    """x * factor with a public number. Free: only the fixed-point scale changes."""
    return x * factor


@_primitive
def mul(x: Any, y: Any) -> Any:
    """Element-wise product of two secret tensors, broadcast. Opens each of them, once."""
    return x * y


@_primitive
def square(x: Any) -> Any:
    """x * x. Opens x, once."""
    return x * x


@_primitive
def matmul(x: Any, y: Any) -> Any:
    """Batched matrix product [..., m, k] x [..., k, n] of two secret tensors. Opens each of them, once."""
    return torch.matmul(x, y)


@_primitive
def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x @ weight.T + bias, x [..., in], weight [out, in], bias [out]. Opens x, once; the weight's mask is opened at set-up."""
    return torch.nn.functional.linear(x, weight, bias)


@_primitive
def conv(
    x: Any, weight: Any, bias: Any, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Any:
    """Convolution over the trailing dimensions, x [batch, in, ...], weight [out, in / groups, ...]. Opens x, once."""
    nd = weight.dim() - 2
    return torch.convolution(x, weight, bias, list(stride), list(padding), list(dilation), False, [0] * nd, groups)


@_primitive
def sum_(x: Any, dims: Sequence[int], keepdim: bool = False) -> Any:
    """Sum over the dimensions `dims`. Local."""
    return x.sum(dim=tuple(dims), keepdim=keepdim)


@_primitive
def polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """coefficients[0] + coefficients[1] x + ... (public coefficients). Opens x, once, whatever the degree."""
    y = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y = y * x + c
    return y


@_primitive
def curve(x: Any, low: float, step: float, pieces: Sequence[Sequence[float]], depth: int | None = None) -> Any:
    """The piece of x on a grid, at t = (x - its place) / step; pieces[j], of 1, t, t^2 ..., has its place at low + j step.

    Opens x, once, in one round, to few bits. A run on shares may take the next piece instead, at t - 1: each is to hold on
    (-1, 1). There are 2^n of them, and beyond the last comes the first, so x has to stay within low ... low + (2^n - 1) step:
    outside, shares give what a piece at the other end does, and this reference gives NaN. With a `depth` there are 2^depth
    places, and those that have no piece are 0.
    """
    if x.device.type == "meta":
        return torch.empty_like(x)
    places = len(pieces) if depth is None else 1 << depth
    table = torch.tensor(pieces, dtype=x.dtype, device=x.device)
    rows = torch.full((places + 2, table.shape[1]), torch.nan, dtype=x.dtype, device=x.device)  # with one at either end, outside
    rows[1 : places + 1] = 0.0
    rows[1 : len(pieces) + 1] = table
    place = (x - low) / step
    number = place.floor()
    which = number + 1 + (place > places - 1)
    which = which.clamp(0, places + 1).nan_to_num(0.0).long()
    coefficients = _Row.apply(which, rows.T.contiguous())  # type: ignore[no-untyped-call]
    t, y = place - number, coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        y = y * t + coefficient
    return y


class _Row(torch.autograd.Function):
    """columns[:, place] of columns [k, places], one tensor each. A batch of places is one of more dimensions: vmap's own way
    has an index for every element of the batch, which takes five times as long."""

    @staticmethod
    def forward(place: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        flat = place.flatten()
        return tuple(column.index_select(0, flat).view(place.shape) for column in columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Places have no gradient, and pieces are constants."""
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, None]:
        return None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, place: torch.Tensor, columns: torch.Tensor) -> tuple[Any, Any]:
        """Element by element, whatever dimension is the batch's."""
        found = _Row.apply(place, columns)  # type: ignore[no-untyped-call]
        return found, (in_dims[0],) * len(found)


@_primitive
def less(x: Any, threshold: float) -> Any:
    """1 where x < threshold (a public number), else 0: a secret bit. Opens x, once, and one round for the bit."""
    return (x < threshold).to(x.dtype)


@_primitive
def select(bit: Any, x: Any) -> Any:
    """x where the secret bit is 1, else 0. Opens the bit's mask and x, once each."""
    return bit * x


@_primitive
def gather(x: Any, dim: int, index: Sequence[int]) -> Any:
    """The positions `index` of dimension `dim`, in that order. A view: it moves values about."""
    if list(index) == list(range(index[0], index[0] + len(index))):
        return x.narrow(dim, index[0], len(index))
    return torch.index_select(x, dim, torch.tensor(index, device=x.device))


sum = sum_  # noqa: A001  (the primitive is called `mpc.sum`; inside this file `sum` stays unused)


def mean(x: Any, dims: Sequence[int], keepdim: bool = False) -> Any:
    """Mean over `dims`, a sum and a free scale."""
    count = 1
    for d in dims:
        count *= int(x.shape[d])
    return scale(sum_(x, dims, keepdim), 1.0 / count)


def neg(x: Any) -> Any:
    """-x. Free."""
    return scale(x, -1.0)


def relu(x: Any) -> Any:
    """max(x, 0): one comparison and one selection."""
    if isinstance(x, torch.Tensor):
        return torch.relu(x)  # the same, in one operator: where a model is trained or exported
    return sub(x, select(less(x, 0.0), x))


def maximum(x: Any, y: Any) -> Any:
    """Element-wise maximum of two secret tensors."""
    return add(y, relu(sub(x, y)))


@_primitive
def apply_mask(x: Any, shape: Sequence[int], bits: str) -> Any:
    """x where the public mask `bits` of `shape` (see mpcc.ir.public_mask, broadcast to x) is 1, else 0. Local."""
    return x * mask_of(tuple(shape), bits).to(device=x.device, dtype=x.dtype)


@_primitive
def scale_rows(x: Any, shape: Sequence[int], weights: Sequence[int]) -> Any:
    """x times public integers of `shape`, broadcast. Local."""
    return x * torch.tensor(tuple(weights), dtype=x.dtype, device=x.device).reshape(tuple(shape))


VIEWS: frozenset[Any] = frozenset(
    {
        torch.ops.aten.reshape.default,
        torch.ops.aten.permute.default,
        torch.ops.aten.expand.default,
        torch.ops.aten.slice.Tensor,
        torch.ops.aten.select.int,
        torch.ops.aten.cat.default,
        torch.ops.aten.constant_pad_nd.default,
        torch.ops.aten.roll.default,
        torch.ops.aten.flip.default,
        torch.ops.aten.index.Tensor,
        gather,
        apply_mask,
        scale_rows,
    }
)
"""ATen operators that only move values, and `gather`, `apply_mask`, `scale_rows`: the same on floats, shares and masks."""


