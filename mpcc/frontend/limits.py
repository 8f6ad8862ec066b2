"""How large a model from a file may be. Every size is found out before anything of that size is made.

A few bytes of a file can ask for 10^12 elements. While a file is read, `Limits.guard` looks at each tensor operation:
it is first run on shapes alone, and refused if its result, or all results together, would be too large.

    with limits.guard(weights=bytes_of_weights):
        ...     # torch.full((1000000, 1000000), 0.) is a ModelFileError here, at once
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from mpcc.errors import ModelFileError

aten = torch.ops.aten


@dataclass(frozen=True)
class Limits:
    """What a model file may ask for. The largest published ViTs stay below a tenth of each of these.

    nodes      operators of the graph, with functions, loops and branches spelt out
    elements   of one tensor that is computed while the file is read
    activation elements of one value that depends on the inputs (SAM's global attention over 1024x1024 pixels has 2^28)
    weights    bytes of all weights together
    scratch    bytes of all that is computed while the file is read, beyond copies of the weights
    products   multiplications while the file is read: about a second of one core
    """

    nodes: int = 20_000
    elements: int = 1 << 26
    activation: int = 1 << 30
    weights: int = 1 << 33
    scratch: int = 1 << 29
    products: int = 1 << 34

    def times(self, factor: float) -> Limits:
        """All of them, `factor` times as large."""
        return replace(self, **{name: int(value * factor) for name, value in vars(self).items()})

    @contextmanager
    def guard(self, weights: int = 0) -> Iterator[None]:
        """Refuse, inside, every tensor operation that leaves the limits. `weights`: their bytes."""
        with _Guard(self, weights):
            yield


DEFAULT = Limits()
HINT = "If you trust the file, raise the limits: capture(..., limits=mpcc.frontend.Limits().times(10)), or --size-limit 10."

# A weight is copied, made contiguous, widened to double precision and folded: never more copies than these.
_COPIES = 24
# Elements of a tensor that is not looked at further: with others of its shape it gives one of as many.
SMALL = 1 << 14
# Tensor operations for each node of the file: an Attention node with everything in it takes some forty.
_CALLS = 100
# (operator, its factor whose last dimension is summed over)
_PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "convolution": 1, "mv": 0, "dot": 0}


class _Guard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs each operation on shapes alone before it runs it; what it finds is kept for equal calls."""

    def __init__(self, limits: Limits, weights: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limits = limits
        self.bytes_left = limits.scratch + _COPIES * weights
        self.products_left = limits.products
        self.calls_left = _CALLS * limits.nodes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.calls_left -= 1
        if self.calls_left < 0:
            raise ModelFileError(f"reading it takes more than {_CALLS * self.limits.nodes:,} operations", hint=HINT)
        tensors = [item for item in tree_iter((args, kwargs)) if isinstance(item, torch.Tensor)]
        on_meta = _on_meta(tensors, kwargs)
        if not on_meta and not _is_view(func):
            self._allow(func, args, kwargs, tensors)
        result = func(*args, **kwargs)
        if on_meta:
            self._allow_activation(func, result)
        return result

    def _allow(self, func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor]) -> None:
        if torch.Tag.pointwise in func.tags and tensors and _stays_small(tensors):
            return
        made = _predicted(func, args, kwargs)
        largest = max((item.numel() for item in made), default=0)
        if largest > self.limits.elements and largest > max(map(_held, tensors), default=0):  # a weight may be copied
            raise _too_large(func, made, self.limits.elements)
        self.bytes_left -= sum(item.numel() * item.element_size() for item in made)
        if self.bytes_left < 0:
            raise ModelFileError("the constants that it computes are too large together", hint=HINT)
        place = _PRODUCTS.get(_name(func))
        if place is not None and made and len(tensors) > place:
            factor = tensors[place]
            summed = math.prod(factor.shape[1:]) if _name(func) == "convolution" else factor.shape[-1]
            self.products_left -= largest * summed
            if self.products_left < 0:
                raise ModelFileError("the constants that it computes take too many multiplications", hint=HINT)

    def _allow_activation(self, func: Any, result: Any) -> None:
        made = [item for item in tree_iter(result) if isinstance(item, torch.Tensor)]
        if any(item.numel() > self.limits.activation for item in made):
            raise _too_large(func, made, self.limits.activation)


def _predicted(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The results as tensors without storage; none where the shape depends on values that are bounded by the inputs."""
    values = _of_values(func, args)
    if values is not None:
        return values
    metas, named = tree_map(_as_meta, (args, {**kwargs, "device": "meta"} if "device" in kwargs else kwargs))
    if not any(isinstance(item, torch.Tensor) for item in tree_iter((metas, named))):
        named = {**named, "device": "meta"}
    try:
        result = func(*metas, **named)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return []  # the operation itself says what is wrong, or its result is a selection from what it reads
    return [item for item in tree_iter(result) if isinstance(item, torch.Tensor)]


def _of_values(func: Any, args: Any) -> list[torch.Tensor] | None:
    """The two operators whose results may be larger than what they read by the values in it."""
    if _name(func) == "repeat_interleave" and func._overloadname == "Tensor":
        return [torch.empty(max(int(args[0].double().sum()), 0), dtype=torch.int64, device="meta")]
    if _name(func) == "bincount" and args[0].numel():
        return [torch.empty(max(int(args[0].max()), 0) + 1, dtype=torch.int64, device="meta")]
    return None


def _as_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.device.type != "meta":
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return value


def _on_meta(tensors: list[torch.Tensor], kwargs: Any) -> bool:
    if tensors:
        return any(item.device.type == "meta" for item in tensors)
    return str(kwargs.get("device")) == "meta"


def _stays_small(tensors: list[torch.Tensor]) -> bool:
    """Whether broadcasting these makes nothing large: small vectors, or a few small tensors of one shape."""
    shape = tensors[0].shape
    return all(item.numel() <= SMALL and (item.dim() <= 1 or item.shape == shape) for item in tensors)


def _held(tensor: torch.Tensor) -> int:
    """The elements that a tensor has in memory; a broadcast one has fewer than its shape says."""
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _is_view(func: Any) -> bool:
    """Whether the result shares the memory of an argument (an `out` or in-place form that grows it does not)."""
    schema = func._schema
    return "resize" not in schema.name and any(item.alias_info is not None for item in schema.returns)


def _name(func: Any) -> str:
    return str(func._schema.name).removeprefix("aten::")


def _too_large(func: Any, made: list[torch.Tensor], most: int) -> ModelFileError:
    largest = max(made, key=torch.Tensor.numel)
    shape = " x ".join(f"{size:,}" for size in largest.shape)
    return ModelFileError(f"{_name(func)} makes a tensor of {shape} elements, more than {most:,}", hint=HINT)
