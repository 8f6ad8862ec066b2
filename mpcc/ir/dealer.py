"""The dealer program: functions of masks that the parties need shares of. Plain integers modulo 2^64 and packed bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import curve
from .comparison_circuit import AND_PLANES, CHUNKS, SUBSETS, WINDOW_BITS
from .curve import KEY_WORDS
from .ring import RING_BITS, Bilinear, bilinear, pack


def mask(shape: Sequence[int]) -> Tensor:
    """A uniform mask [shape] of 64-bit words, fresh for each inference: the dealer draws it; this plain form is zero."""
    return torch.zeros(tuple(shape), dtype=torch.int64)


def weight_mask(shape: Sequence[int]) -> Tensor:
    """A uniform mask of a weight, fixed for the life of one set-up."""
    return torch.zeros(tuple(shape), dtype=torch.int64)


def random_bits(shape: Sequence[int]) -> Tensor:
    """Uniform 0/1 values [shape]."""
    return torch.zeros(tuple(shape), dtype=torch.int64)


def noise(shape: Sequence[int], bits: int) -> Tensor:
    """What an output is flooded with: the sum of NOISE_TERMS uniform numbers of `bits` bits, centred; this plain form is zero."""
    return torch.zeros(tuple(shape), dtype=torch.int64)


def high(r: Tensor, f: int, ring: int = RING_BITS) -> Tensor:
    """rho = (r mod 2^(ring - 1)) >> f; r itself for f = 0."""
    return r if f == 0 else (r & ((1 << (ring - 1)) - 1)) >> f


def top(r: Tensor, ring: int = RING_BITS) -> Tensor:
    """The top bit of r modulo 2^ring."""
    return r >> (ring - 1) & 1


def multiply(x: Tensor, y: Tensor) -> Tensor:
    return x * y


def product(kind: str, x: Tensor, y: Tensor, attributes: Sequence[Any] = (), *, by: Bilinear = bilinear) -> Tensor:
    return by(kind, x, y, attributes)


def tables(r: Tensor, low: int) -> Tensor:
    """Lookup tables [CHUNKS / 2, n]: per 4-bit chunk of r >> low, at bit j whether j < chunk, at bit 16 + j whether j = chunk.

    Two chunks share a word.
    """
    v = r.reshape(-1) >> low
    halves = []
    for chunk in range(CHUNKS):
        digit = v >> (4 * chunk) & 15
        halves.append((torch.ones_like(digit) << digit) - 1 | torch.ones_like(digit) << (digit + 16))
    return torch.stack([halves[2 * i] | halves[2 * i + 1] << 32 for i in range(CHUNKS // 2)])


def sign(r: Tensor, low: int) -> Tensor:
    """The bit of r above the comparison window, 0/1 [n]."""
    return r.reshape(-1) >> (low + WINDOW_BITS) & 1


def plane_masks(count: int) -> Tensor:
    """Uniform packed masks [AND_PLANES, count words]."""
    return torch.zeros((AND_PLANES, count), dtype=torch.int64)


def mask_products(a: Tensor) -> Tensor:
    """The products of plane masks that the AND round needs [len(SUBSETS), words]."""
    result = []
    for chosen in SUBSETS:
        value = a[chosen[0]]
        for t in chosen[1:]:
            value = value & a[t]
        result.append(value)
    return torch.stack(result)


def packed(bits: Tensor) -> Tensor:
    """0/1 values [...] -> packed words of their flattening."""
    return pack(bits.reshape(-1))


def roots(shape: Sequence[int]) -> Tensor:
    """The roots of trees [count, 2]: each party's own 128 uniform bits, the lowest of which is its number."""
    return torch.zeros(tuple(shape), dtype=torch.int64)


def tree_keys() -> Tensor:
    """Two AES keys [KEY_WORDS], drawn for one tree and known to all: what its nodes are hashed with."""
    return torch.zeros(KEY_WORDS, dtype=torch.int64)


def point(r: Tensor, depth: int, low: int) -> Tensor:
    """y: the `depth` bits of r above its `low` lowest."""
    return r >> low & ((1 << depth) - 1)


def powers(r: Tensor, low: int, degree: int, fine: int) -> Tensor:
    """1, rho, ..., rho^degree [degree + 1, *shape] of the `low` lowest bits of r: see `mpcc.ir.curve`."""
    return curve.powers(r & ((1 << low) - 1), low, degree, fine)


def tree(roots: Tensor | None, keys: Tensor | None, point: Tensor, payload: Tensor, depth: int) -> Tensor:
    """The key of trees that share `payload` [width, *shape] at `point` [*shape]; both parties get it.

    This plain form says what the key is about, unhidden, in as many words; the dealer runs `mpcc.runtime.native.trees`.
    """
    said = torch.cat([point.reshape(-1), payload.reshape(-1)])
    words = curve.key_words(point.numel(), depth, len(payload))
    return torch.cat([said, said.new_zeros(words - said.numel())])


RANDOM = frozenset({mask, weight_mask, random_bits, plane_masks, noise, roots, tree_keys})
"""What the dealer draws; everything else is computed from these."""

DEALERS_OWN = frozenset({random_bits, noise, tree_keys})
"""What it draws from a seed of its own, so that its shares travel; shares of the rest expand from the parties' seeds."""

COMMON = frozenset({tree})
"""What both parties get, the same: not shares of a value, but what they expand their shares with."""

UNHIDING = frozenset({noise, roots, tree_keys})
"""Random values that are no masks of opened values."""

NOISE_TERMS = 12
"""The variance of a uniform number of width W is W^2 / 12, so that of the sum of twelve is W^2: `noise` has the standard
deviation 2^bits. It is smooth (a single uniform number is not: extremes of N answers show a shift of W / N), and bounded."""
NOISE_REACH = NOISE_TERMS // 2
"""The largest noise, in standard deviations."""

PACKED = frozenset({tables, packed, plane_masks, mask_products})
"""What is shared by xor, as packed bits; everything else is shared by addition modulo 2^64."""
