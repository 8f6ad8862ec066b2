"""Cryptographic randomness: AES-256 in counter mode, one key per purpose.

A seed of 32 bytes is expanded into independent streams by label; each label is used for one value only, so no mask is
ever drawn twice. Keys are derived with HMAC-SHA-256.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from functools import lru_cache

import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from torch import Tensor

SEED_BYTES = 32


def fresh_seed() -> bytes:
    """A seed from the operating system's generator."""
    return secrets.token_bytes(SEED_BYTES)


def derive(seed: bytes, label: str) -> bytes:
    """The seed of a purpose."""
    return hmac.digest(seed, label.encode(), "sha256")


def uniform(seed: bytes, label: str, shape: Sequence[int]) -> Tensor:
    """Uniform 64-bit words [shape], as int64."""
    count = 1
    for s in shape:
        count *= s
    encryptor = Cipher(AES256(derive(seed, label)), CTR(bytes(16))).encryptor()
    output = bytearray(8 * count + 15)
    written = encryptor.update_into(_zeros(8 * count), output)
    assert written == 8 * count
    return torch.frombuffer(output, dtype=torch.int64, count=count).reshape(tuple(shape)) if count else torch.empty(tuple(shape), dtype=torch.int64)


@lru_cache(maxsize=64)
def _zeros(count: int) -> bytes:
    return bytes(count)


def uniform_bits(seed: bytes, label: str, shape: Sequence[int]) -> Tensor:
    """Uniform 0/1 values [shape], as int64."""
    from ..ir.ring import unpack, words

    count = 1
    for s in shape:
        count *= s
    return unpack(uniform(seed, label, (words(count),)), count).reshape(tuple(shape))
