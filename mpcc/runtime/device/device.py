"""What a role needs of the place where it computes; this one is the CPU, and a GPU (`card.py`) differs from it in nothing else.

    values        tensors on the device: shares, openings, the dealer's values
    messages      filled and read on the device, sent and received in buffers on the host, which sees no more of a share
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from mpcc.ir import curve, dealer
from mpcc.program.layout import Place

from ..engine import packing
from ..engine.prepared import Prepared
from ..native import trees

Kernels = Mapping[Any, Callable[..., Any]]
"""Operations of the online or the dealer level, and what computes them instead of their plain form."""
Draw = Callable[[bytes, int], Tensor]


class Device:
    """The CPU: everything stays where it is."""

    name = "cpu"
    place = torch.device("cpu")

    @property
    def title(self) -> str:
        """What people call it."""
        return "the CPU"

    def wait(self) -> None:
        """Until all that was begun is computed."""

    # -- what computes --

    def online(self, weights: Sequence[Tensor | None]) -> Kernels:
        """A party's kernels; `weights` (None: another's) are on the device and stay the same."""
        return {curve.curve: trees.curve} | dict(Prepared(weights).kernels)

    def dealing(self) -> Kernels:
        """The dealer's kernels."""
        return {dealer.tree: trees.make_tree}

    @property
    def draw(self) -> Draw | None:
        """What draws words under a key; None: the processor."""
        return None

    def computing(self) -> AbstractContextManager[None]:
        """Around what runs on the device: a failure of the device becomes an error of this role."""
        return nullcontext()

    # -- values --

    def on_it(self, value: Tensor) -> Tensor:
        """A tensor of the host."""
        return value

    def on_host(self, value: Tensor) -> Tensor:
        """A tensor of the device, once it is computed."""
        return value

    # -- messages --

    def buffer(self, words: int) -> Tensor:
        """On the host, for a message that comes."""
        return torch.empty(words, dtype=torch.int64)

    def blank(self, words: int) -> Tensor:
        """On the device, a message to be filled; its last word may stay partly zero."""
        message = torch.empty(words, dtype=torch.int64, device=self.place)
        message[-1:] = 0
        return message

    def write(self, message: Tensor, place: Place, share: Tensor) -> None:
        """Put a share into a message."""
        packing.write(message, place, share)

    def read(self, message: Tensor, place: Place) -> Tensor:
        """The words [n] that a message holds."""
        return packing.read(message, place)

    def zeros(self, shape: Sequence[int]) -> Tensor:
        return torch.zeros(tuple(shape), dtype=torch.int64, device=self.place)


CPU = Device()
