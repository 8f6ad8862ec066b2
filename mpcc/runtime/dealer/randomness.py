"""Cryptographic randomness: AES-256 in counter mode, one key per purpose.

A seed of 32 bytes is expanded into independent streams by label; each label is used for one value only, so no mask is
ever drawn twice. Keys are derived with HMAC-SHA-256.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Callable, Sequence

import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from torch import Tensor

from mpcc.ir.dealer import NOISE_TERMS
from mpcc.ir.ring import RING_BITS, unpack, words

SEED_BYTES = 32
Draw = Callable[[bytes, int], Tensor]


def fresh_seed() -> bytes:
    """A seed from the operating system's generator."""
    return secrets.token_bytes(SEED_BYTES)


def derive(seed: bytes, label: str) -> bytes:
    """The seed of a purpose."""
    return hmac.digest(seed, label.encode(), "sha256")


def uniform(seed: bytes, label: str, shape: Sequence[int], draw: Draw | None = None) -> Tensor:
    """Uniform 64-bit words [shape], as int64. `draw`: what gives the same words elsewhere (`mpcc.runtime.device`)."""
    key = derive(seed, label)
    return (draw or key_stream)(key, math.prod(shape)).reshape(tuple(shape))


def key_stream(key: bytes, count: int) -> Tensor:
    """The words [count] of AES-256 in counter mode, from counter zero on."""
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    words = torch.empty(count + 2, dtype=torch.int64)  # the cipher asks for room for one more block
    encryptor = Cipher(AES256(key), CTR(bytes(16))).encryptor()
    written = encryptor.update_into(_zeros(8 * count), words.numpy().view("uint8").data)
    assert written == 8 * count
    return words[:count]


class _Zeros:
    """What is encrypted to get the key stream: one block of zeros, as long as the longest value so far."""

    block = bytes(1 << 16)

    def __call__(self, count: int) -> memoryview:
        if len(self.block) < count:
            self.block = bytes(count)
        return memoryview(self.block)[:count]


_zeros = _Zeros()


def uniform_bits(seed: bytes, label: str, shape: Sequence[int], draw: Draw | None = None) -> Tensor:
    """Uniform 0/1 values [shape], as int64."""
    count = math.prod(shape)
    return unpack(uniform(seed, label, (words(count),), draw), count).reshape(tuple(shape))


def noise(seed: bytes, label: str, shape: Sequence[int], bits: int, draw: Draw | None = None) -> Tensor:
    """The sum of NOISE_TERMS uniform numbers of `bits` bits, centred: integers [shape] of standard deviation 2^bits."""
    if bits == 0:
        return torch.zeros(tuple(shape), dtype=torch.int64)
    terms = uniform(seed, label, (NOISE_TERMS, *shape), draw) >> (RING_BITS - bits)  # each in [-2^(bits - 1), 2^(bits - 1))
    return terms.sum(0) + NOISE_TERMS // 2
