"""Spline gates in numpy, bit for bit what gates.c computes: where that was not built, and to hold it against.

All arrays are of 64-bit words, unsigned: nodes [count, 2], corrections [depth, count, 2], last [width, count].
"""

from __future__ import annotations

from math import comb

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import ECB

from mpcc.ir.curve import grown_levels

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
ONE = np.uint64(1)
NODES_AT_ONCE = 1 << 15
"""Nodes of the widest level over all elements of a batch: about 3 MB for each array, which stays in a processor's cache."""


class Hash:
    """H(x) = AES(s(x)) xor s(x), s(hi, lo) = (hi xor lo, hi), under one public key. ECB: each node is a block by itself."""

    def __init__(self, key: bytes) -> None:
        self.encryptor = Cipher(AES128(key), ECB()).encryptor()

    def __call__(self, nodes: Words, tweak: int = 0) -> Words:
        """Of nodes [..., 2]."""
        x = nodes ^ np.array([tweak, 0], np.uint64)
        mixed = np.stack([x[..., 1], x[..., 0] ^ x[..., 1]], -1)
        made: Words = np.frombuffer(self.encryptor.update(mixed.tobytes()), np.uint64).reshape(mixed.shape) ^ mixed
        return made


def hashes(keys: bytes) -> tuple[Hash, Hash]:
    """Of inner nodes and of leaves."""
    return Hash(keys[:16]), Hash(keys[16:])


def words_of(leaves: Words, leaf: Hash, width: int) -> Words:
    """The first `width` words behind each node: [..., width]."""
    return np.concatenate([leaf(leaves, j << 1) for j in range((width + 1) // 2)], -1)[..., :width]


def make(depth: int, keys: bytes, roots: tuple[Words, Words], point: Words, payload: Words) -> tuple[Words, Words]:
    """The dealer's part: (corrections, last) for points [count] below 2^depth and payloads [width, count]."""
    inner, leaf = hashes(keys)
    width, count = payload.shape
    nodes = np.stack(roots)  # [2, count, 2]
    apart = nodes[0] ^ nodes[1]
    corrections = np.empty((depth, count, 2), np.uint64)
    for level in range(depth):
        right = (point >> np.uint64(depth - 1 - level) & ONE)[:, None]
        hashed = inner(nodes)
        correction = corrections[level] = hashed[0] ^ hashed[1] ^ apart * (right ^ ONE)
        nodes = hashed ^ correction * (nodes[..., :1] & ONE) ^ nodes * right
    found = words_of(nodes, leaf, width)
    last = payload - found[0].T + found[1].T
    return corrections, np.where(nodes[1, :, 0] & ONE, np.uint64(0) - last, last)


def descended(inner: Hash, root: Words, corrections: Words, blocks: Words) -> Words:
    """The nodes [count, many, 2] at these places [count, many] of the level below all corrections."""
    nodes = np.repeat(root[:, None], blocks.shape[1], 1)
    for level, correction in enumerate(corrections):
        right = (blocks >> np.uint64(len(corrections) - 1 - level) & ONE)[..., None]
        nodes = inner(nodes) ^ correction[:, None] * (nodes[..., :1] & ONE) ^ nodes * right
    return nodes


def grown(inner: Hash, nodes: Words, corrections: Words) -> Words:
    """All leaves below nodes [count, many, 2]."""
    for correction in corrections:
        left = inner(nodes) ^ correction[:, None] * (nodes[..., :1] & ONE)
        nodes = np.stack([left, left ^ nodes], 2).reshape(len(nodes), -1, 2)
    return nodes


def leaves(
    party: int, keys: bytes, root: Words, corrections: Words, last: Words, blocks: Words | None = None, span: int = 0
) -> Words:
    """One party's shares of the words of all leaves [count, width, 2^depth]; with `blocks` [count, many], of those of the
    subtrees of 2^span leaves at these places, one after the other."""
    inner, leaf = hashes(keys)
    above = len(corrections) - span
    nodes = root[:, None] if blocks is None else descended(inner, root, corrections[:above], blocks)
    nodes = grown(inner, nodes, corrections if blocks is None else corrections[above:])
    found = words_of(nodes, leaf, len(last)) + last.T[:, None] * (nodes[..., :1] & ONE)
    return np.ascontiguousarray(np.moveaxis(np.uint64(0) - found if party else found, 2, 1))


def coefficients(pieces: Integers, place: Integers, low: int, fine: int, table: Integers) -> Integers:
    """The public integers A_m of `gates.c` [width, *pieces.shape], for pieces and places that broadcast."""
    degree, chosen = len(table) - 1, table[:, pieces]
    found = []
    for m in range(degree + 1):
        v = chosen[degree] * comb(degree, m)
        for power in range(degree - 1, m - 1, -1):
            v = (v * place >> low) + chosen[power] * comb(power, m)
        if m:
            v = ((v if m % 2 == 0 else -v) + (1 << fine >> 1)) >> fine
        found.append(v)
    return np.stack(found)


def curve(
    party: int, depth: int, low: int, fine: int, keys: bytes, root: Words, corrections: Words, last: Words, opened: Words,
    table: Integers, units: Integers,
) -> Words:  # fmt: skip
    """One party's share of a piecewise polynomial [count]; table [degree + 1, pieces], units [pieces].

    Where the pieces are so few, only the two subtrees are grown whose leaves meet one."""
    levels = grown_levels(depth, len(units))
    many, step, whole = 1 << levels, max(1, NODES_AT_ONCE >> levels), levels == depth
    table, units = (np.pad(each, [(0, 0)] * (each.ndim - 1) + [(0, many - len(units))]) for each in (table, units))
    piece = opened >> np.uint64(low)
    place = (opened & np.uint64((1 << low) - 1)).astype(np.int64) - (1 << low >> 1)
    first = piece * np.uint64(0) if whole else (piece >> np.uint64(levels - 1)) - ONE
    blocks = None if whole else first[:, None] + np.arange(2, dtype=np.uint64)
    top = (piece - (first << np.uint64(levels - 1))).view(np.int64) % many  # T, counted from the first leaf that is grown
    made = np.empty(len(opened), np.uint64)
    for start in range(0, len(opened), step):
        part = slice(start, start + step)
        some = None if blocks is None else blocks[part]
        shares = leaves(party, keys, root[part], corrections[:, part], last[:, part], some, levels - 1)
        behind = (top[part, None] - np.arange(many)) % many
        public = coefficients(behind, place[part, None], low, fine, table) << units[behind]
        made[part] = np.einsum("nwy,wny->n", shares, public.view(np.uint64))
    return made
