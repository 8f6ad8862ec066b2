"""A GPU: shares, openings and material live in its memory, and its kernels compute what the CPU would, bit for bit.

    Card.of("cuda:1")     checked: every kernel has just given the CPU's bits on random values (`check.py`)

What goes to the host are the bytes that go on the wire, and outputs, through page-locked buffers. Copies to the device do not
wait; a message that is sent waits for what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mpcc.errors import MissingDependency, PartyError, UsageError
from mpcc.ir import curve, dealer, online
from mpcc.ir.ring import bilinear
from mpcc.program.layout import Place

from . import compiled
from .compiled import HOST
from .device import CPU, Device, Draw
from .device import Kernels as Chosen
from .kernels import Kernels
from .products import Products

FAILURES: tuple[type[Exception], ...] = tuple(filter(None, [getattr(torch, "AcceleratorError", None)]))
"""What torch raises where a GPU or its driver fails, in versions that know it from other errors."""
BY_WEIGHT = ("linear", "matmul", "rmatmul")
"""Kinds of products that are one product of matrices, with a weight on one side."""


class Card(Device):
    """One GPU, or the same kernels built for this CPU (`HOST`: for tests, where there is no GPU)."""

    def __init__(self, name: str, place: torch.device, architecture: str) -> None:
        self.name, self.place, self.kernels = name, place, Kernels(place, architecture)
        self.pinned = architecture != HOST

    @property
    def title(self) -> str:
        return torch.cuda.get_device_name(self.place) if self.pinned else "the GPU's kernels on this CPU"

    def wait(self) -> None:
        if self.pinned:
            torch.cuda.synchronize(self.place)

    # -- what computes --

    def online(self, weights: Sequence[Tensor | None]) -> Chosen:
        products = Products(self.kernels, weights)

        def with_it(target: Callable[..., Any], lasting: bool = False) -> Callable[..., Any]:
            by = _Bilinear(products, lasting)
            return lambda *arguments, **options: target(*arguments, **options, by=by)

        own = {curve.curve: self.kernels.curve, online.weight_share: self._weight_share}
        own |= {target: with_it(target) for target in (online.product, online.weight_product, online.public_product)}
        return own | {online.mask_weight_product: with_it(online.mask_weight_product, lasting=True)}

    def dealing(self) -> Chosen:
        by = _Bilinear(Products(self.kernels))

        def product(kind: str, x: Tensor, y: Tensor, attributes: Sequence[Any] = ()) -> Tensor:
            return dealer.product(kind, x, y, attributes, by=by)

        return {dealer.tree: self.kernels.make_tree, dealer.product: product}

    def _weight_share(self, weight: Tensor | None, shape: Sequence[int]) -> Tensor:
        return self.zeros(shape) if weight is None else weight

    @property
    def draw(self) -> Draw:
        return self.kernels.draw

    @contextmanager
    def computing(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            what, hint = "its memory is full", "A smaller batch or another GPU; `nvidia-smi` shows what else runs on it."
            raise PartyError(what, where=self.name, hint=hint) from None
        except FAILURES as error:
            raise PartyError(f"it failed: {str(error).splitlines()[0]}", where=self.name) from None

    # -- values and messages --

    def on_it(self, value: Tensor) -> Tensor:
        return value.to(self.place, non_blocking=value.is_pinned()) if self.pinned else value

    def on_host(self, value: Tensor) -> Tensor:
        if not self.pinned:
            return value
        made = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        made.copy_(value, non_blocking=True)
        torch.cuda.current_stream(self.place).synchronize()
        return made

    def buffer(self, words: int) -> Tensor:
        return torch.empty(words, dtype=torch.int64, pin_memory=self.pinned)

    def write(self, message: Tensor, place: Place, share: Tensor) -> None:
        self.kernels.write(message, place, share)

    def read(self, message: Tensor, place: Place) -> Tensor:
        return self.kernels.read(message, place)


class _Bilinear:
    """`mpcc.ir.ring.bilinear` on the device; products with a weight by what was made of it once.

    `lasting`: every right operand stays the same over a session, as the opened F = W + B does.
    """

    def __init__(self, products: Products, lasting: bool = False) -> None:
        self.products, self.lasting = products, lasting

    def __call__(self, kind: str, x: Tensor, y: Tensor, attributes: Sequence[Any] = ()) -> Tensor:
        if kind in BY_WEIGHT and y.dim() == 2 and (self.lasting or id(y) in self.products.fixed):
            self.products.fixed.setdefault(id(y), y)  # kept, so that no other tensor can have its id
            return self.products.by_weight(kind, x, y)
        return bilinear(kind, x, y, attributes, times=self.products.matmul)


def device_of(name: str | None) -> Device:
    """The device of that name, ready and checked: cpu (also None), cuda, cuda:1, or `host` (for tests: see `Card`).

    UsageError for another name or one that is not there, MissingDependency where nothing was built for it, CheckFailed where
    a kernel gives other bits than the CPU.
    """
    if name is None or name == CPU.name:
        return CPU
    from .check import check

    place, architecture = ready(name)
    made = Card(HOST if architecture == HOST else str(place), place, architecture)
    check(made)
    return made


def ready(name: str) -> tuple[torch.device, str]:
    """Where the device of a name is, and the architecture that its kernels are now built for: what may take long, and what may
    fail of a name, before others wait for this process. The CPU needs nothing."""
    place = None if name == CPU.name else named(name)
    if place is None:
        architecture = HOST
    else:
        major, minor = torch.cuda.get_device_capability(place)
        architecture = f"sm_{major}{minor}"
    if name != CPU.name:
        compiled.build(architecture)
    return place or CPU.place, architecture


def place_of(name: str | None) -> torch.device:
    """Where torch computes on that device, for what needs no kernels. UsageError, MissingDependency."""
    found = None if name in (None, CPU.name) else named(str(name))
    return found or CPU.place


def named(name: str) -> torch.device | None:
    """The GPU of a name (None: HOST), by number. UsageError, MissingDependency."""
    if name == HOST:
        return None
    try:
        place = torch.device(name)
    except RuntimeError:
        place = torch.device("meta")
    if place.type != "cuda":
        raise UsageError(f"{name[:40]!r} is no device for a party", where="--device", hint="cpu, cuda, cuda:1 ...")
    if torch.version.cuda is None:
        raise MissingDependency(
            "this torch was built without CUDA", where=f"--device {name}", hint="Install torch for CUDA: https://pytorch.org"
        )
    count = torch.cuda.device_count()
    index = place.index or 0
    if index >= count:
        what = "no GPU is visible here" if count == 0 else f"there are {count} GPUs, numbered from 0"
        raise UsageError(what, where=f"--device {name}", hint="`nvidia-smi` lists them; $CUDA_VISIBLE_DEVICES hides some.")
    return torch.device("cuda", index)
