"""The compiled kernels as functions of tensors: on one device what `trees`, `packing`, `randomness` and a product are on the CPU.

All tensors are contiguous int64 on the device; results are the CPU's, bit for bit. Launches are on torch's current stream, so
nothing waits but who reads a result on the CPU.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from mpcc.errors import PartyError
from mpcc.ir.curve import KEY_WORDS, grown_levels
from mpcc.program.layout import Place

from ..native.trees import turned
from .compiled import HOST, load

Table = tuple[tuple[int, ...], ...]
HOST_THREADS = 256
"""Of a build for the CPU, which has none: enough that tests share elements out as a GPU does."""
THREADS_A_MULTIPROCESSOR = 1024
"""Of kernels that encrypt: two blocks of 512 (aes.h)."""
LEAST_LEAVES = 2
"""log2 of what a thread expands at least: its own way down from the root is then no more than twice that work."""


class Kernels:
    """The kernels on one device. PartyError where a launch fails."""

    def __init__(self, device: torch.device, architecture: str) -> None:
        self.device, self.library = device, load(architecture)
        self.index = -1 if architecture == HOST else device.index or 0
        self.threads = HOST_THREADS
        if self.index >= 0:
            found = torch.cuda.get_device_properties(device)
            self.threads = int(found.multi_processor_count) * THREADS_A_MULTIPROCESSOR
        self._table = lru_cache(256)(self._table_of)

    def _launch(self, name: str, *arguments: object) -> None:
        """Integers, tensors (their memory), bytes and ctypes arrays."""
        stream = None
        if self.index >= 0:
            self._checked(name, self.library.use_device(self.index))
            stream = torch.cuda.current_stream(self.device).cuda_stream
        self._checked(name, getattr(self.library, name)(*map(_argument, arguments), ctypes.c_void_p(stream)))

    def _checked(self, name: str, error: int) -> None:
        if error:
            text = self.library.error_text(error).decode(errors="replace")
            raise PartyError(f"{name} failed: {text} ({error})", where=str(self.device))

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.int64, device=self.device)

    # -- trees --

    def make_tree(self, roots: Tensor, keys: Tensor, point: Tensor, payload: Tensor, depth: int) -> Tensor:
        """`mpcc.runtime.native.trees.make_tree`."""
        count, width = point.numel(), len(payload)
        key = self.empty(KEY_WORDS + count * (2 * depth + width))
        key[:KEY_WORDS] = keys
        _, corrections, last = _parts(key, count, depth)
        one, other = roots.contiguous()
        sizes = ctypes.c_int64(count), depth, width
        self._launch("make_trees", *sizes, key, one, other, point.contiguous(), payload.contiguous(), corrections, last)
        return key

    def curve(
        self, c: Tensor, roots: Tensor, key: Tensor, depth: int, low: int, fine: int, table: Sequence[Sequence[int]],
        units: Sequence[int], *, lead: bool = True,
    ) -> Tensor:  # fmt: skip
        """`mpcc.runtime.native.trees.curve`."""
        count, levels = c.numel(), grown_levels(depth, len(units))
        split = self._split(count, levels, levels < depth)
        numbers, sizes = self._table(tuple(map(tuple, table)), tuple(units), levels)
        keys, corrections, last = _parts(key.contiguous(), count, depth)
        shares = torch.zeros(c.shape, dtype=torch.int64, device=self.device)
        what = 0 if lead else 1, ctypes.c_int64(count), depth, levels, split, len(table) - 1, low, fine
        own = keys, roots.contiguous(), corrections, last, c.contiguous(), numbers, sizes if any(units) else None
        self._launch("evaluate_gates", *what, *own, shares)
        return shares

    def _split(self, count: int, levels: int, halves: bool) -> int:
        """log2 of the threads of one element: as many as fill the device."""
        wanted = math.ceil(math.log2(max(1, self.threads / max(1, count))))
        return max(1 if halves else 0, min(levels - LEAST_LEAVES, wanted))

    def _table_of(self, table: Table, units: tuple[int, ...], levels: int) -> tuple[Tensor, Tensor]:
        numbers, sizes = turned(table, units, 1 << levels)
        return torch.from_numpy(numbers).to(self.device), torch.from_numpy(sizes).to(self.device)

    # -- masks --

    def draw(self, key: bytes, count: int) -> Tensor:
        """Words [count] of AES-256 in counter mode, under a key of 32 bytes."""
        made = self.empty(count)
        if count:
            self._launch("draw_words", key, ctypes.c_int64(count), made)
        return made

    # -- messages --

    def write(self, message: Tensor, place: Place, share: Tensor) -> None:
        """`mpcc.runtime.engine.packing.write`."""
        self._launch("write_planes", share.contiguous(), *_planes(place), message)

    def read(self, message: Tensor, place: Place) -> Tensor:
        """`mpcc.runtime.engine.packing.read`."""
        first = place.planes[0]
        if first.bits == 64:
            return message[first.start // 8 :][: first.count]
        values = self.empty(first.count)
        self._launch("read_planes", message, *_planes(place), values)
        return values

    # -- products --

    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        """x @ y modulo 2^64 of [batch, m, k] and [batch, k, n]."""
        (batch, m, k), n = x.shape, y.shape[-1]
        made = self.empty(batch, m, n)
        if made.numel():
            self._launch("multiply", *map(ctypes.c_int64, (batch, m, k, n)), x.contiguous(), y.contiguous(), made)
        return made

    def split_digits(self, x: Tensor, padded: int, others: int, rows: int) -> Tensor:
        """The digits of x [m, k] as bytes [rows, others * padded], those below the 8 m rows of `Split` in kernels.cu zero."""
        m, k = x.shape
        made = torch.empty(rows, others * padded, dtype=torch.int8, device=self.device)
        made[8 * m :] = 0
        self._launch("split_digits", *map(ctypes.c_int64, (m, k, padded)), others, x.contiguous(), made)
        return made

    def join_digits(self, sums: Tensor, m: int, n: int) -> Tensor:
        """The integers [m, n] of the sums of digit products, int32 [at least 8 m, at least n]."""
        made = self.empty(m, n)
        self._launch("join_digits", *map(ctypes.c_int64, (m, n, sums.shape[1])), sums.contiguous(), made)
        return made


def _argument(value: object) -> object:
    return ctypes.c_void_p(value.data_ptr()) if isinstance(value, Tensor) else value


def _parts(key: Tensor, count: int, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    split = KEY_WORDS + 2 * depth * count
    return key[:KEY_WORDS], key[KEY_WORDS:split], key[split:]


@lru_cache(1 << 14)
def _planes(place: Place) -> tuple[ctypes.c_int64, int, ctypes.Array[ctypes.c_int64]]:
    numbers = [number for plane in place.planes for number in (plane.bits, plane.offset, plane.start)]
    return ctypes.c_int64(place.planes[0].count), len(place.planes), (ctypes.c_int64 * len(numbers))(*numbers)
