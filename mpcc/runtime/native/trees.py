"""What the dealer and the parties call: trees made from points, and gates evaluated, on tensors of 64-bit words.

    key = make_tree(roots, keys, point, payload, depth)      the dealer, for both parties: one value, which both get
    share = curve(c, own_roots, key, depth, ...)             each party, once what it is about is opened

A key is flat: two public AES keys (4 words), the corrections of each level, the last corrections of each word of the payload.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mpcc.ir.curve import KEY_WORDS, grown_levels

from . import plain
from .library import library
from .plain import Integers, Words

T = TypeVar("T")
LEAVES_A_THREAD = 1 << 15
"""At least: some 200 us of work, against 20 us that handing it to a thread takes."""


def make_tree(roots: Tensor, keys: Tensor, point: Tensor, payload: Tensor, depth: int) -> Tensor:
    """The key of a tree; roots [2, count, 2], keys [4], point of any shape below 2^depth, payload [width, *shape]."""
    width = len(payload)
    both, at, what = _words(roots), _words(point).reshape(-1), _words(payload).reshape(width, -1)
    count, secret = len(at), _words(keys).tobytes()
    native = library()
    if native is None:
        corrections, last = plain.make(depth, secret, (both[0], both[1]), at, what)
    else:
        make = native.gates_make

        def part(some: slice) -> tuple[Words, Words]:
            one, other, points, payloads = both[0, some], both[1, some], at[some], np.ascontiguousarray(what[:, some])
            made = np.empty((depth, len(points), 2), np.uint64), np.empty((width, len(points)), np.uint64)
            make(ctypes.c_long(len(points)), depth, width, secret, *map(_pointer, (one, other, points, payloads, *made)))
            return made

        made = _shared_out(count, depth, part)
        corrections, last = made[0] if len(made) == 1 else (np.concatenate(parts, 1) for parts in zip(*made, strict=True))
    return torch.cat([keys, _tensor(corrections), _tensor(last)])


def parts(key: Tensor, count: int, depth: int) -> tuple[bytes, Words, Words]:
    """(the AES keys, corrections, last) of a key."""
    words = _words(key)
    split = KEY_WORDS + 2 * depth * count
    return words[:KEY_WORDS].tobytes(), words[KEY_WORDS:split].reshape(depth, count, 2), words[split:].reshape(-1, count)


def curve(
    c: Tensor, roots: Tensor, key: Tensor, depth: int, low: int, fine: int, table: Sequence[Sequence[int]], units: Sequence[int],
    *, lead: bool = True,
) -> Tensor:  # fmt: skip
    """One party's share of a piecewise polynomial of an opened value: see `mpcc.ir.curve`."""
    opened, root = _words(c).reshape(-1), _words(roots)
    keys, corrections, last = parts(key, len(opened), depth)
    native, party = library(), 0 if lead else 1
    if native is None:
        numbers, sizes = np.array(table, np.int64), np.array(units, np.int64)
        found = plain.curve(party, depth, low, fine, keys, root, corrections, last, opened, numbers, sizes)
        return _tensor(found).reshape(c.shape)
    evaluate, found = native.gates_polynomial, np.empty(len(opened), np.uint64)
    levels = grown_levels(depth, len(units))
    numbers, sizes = turned(tuple(map(tuple, table)), tuple(units), 1 << levels)

    def part(some: slice) -> int:
        own = (root[some], *map(np.ascontiguousarray, (corrections[:, some], last[:, some])), opened[some], numbers)
        count, shape = ctypes.c_long(len(own[0])), (depth, levels, len(table) - 1, low, fine)
        unit = _pointer(sizes) if any(units) else None
        return int(evaluate(party, count, *shape, keys, *map(_pointer, own), unit, _pointer(found[some])))

    if any(_shared_out(len(opened), levels, part)):
        raise MemoryError("no memory for the trees of a spline gate")
    return _tensor(found).reshape(c.shape)


def _shared_out(count: int, depth: int, work: Callable[[slice], T]) -> list[T]:
    """`work` on all elements, in as many threads as torch has where there are enough leaves: ctypes gives up Python's lock."""
    parts = max(1, min(torch.get_num_threads(), (count << depth) // LEAVES_A_THREAD))
    ends = [count * place // parts for place in range(parts + 1)]
    slices = [slice(*pair) for pair in itertools.pairwise(ends)]
    return [work(slices[0])] if parts == 1 else list(_pool(parts).map(work, slices))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="gates")


@lru_cache(256)
def turned(table: tuple[tuple[int, ...], ...], units: tuple[int, ...], many: int) -> tuple[Integers, Integers]:
    """Both as gates.c reads them: `many` pieces, the last ones zeros; entry j is that of piece -j modulo many, all twice."""
    order = -np.arange(2 * many) % many
    rest = (0, many - len(units))
    numbers = np.ascontiguousarray(np.pad(np.array(table, np.int32), ((0, 0), rest))[:, order])
    return numbers, np.pad(np.array(units, np.uint8), rest)[order]


def _words(tensor: Tensor) -> Words:
    return tensor.contiguous().numpy().view(np.uint64)


def _tensor(words: Words) -> Tensor:
    return torch.from_numpy(words.view(np.int64).reshape(-1))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:  # type: ignore[type-arg]
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)
