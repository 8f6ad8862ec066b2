"""How many ciphertexts a matrix product takes under Cheetah: the packing that SPU chooses, by its own rule.

A ciphertext holds 8192 numbers. Operands and result are cut into blocks of d0 x d1, d1 x d2 and d0 x d2 with d0 d1 d2 <= 8192;
the operand of fewer blocks is sent encrypted, and the blocks of the result come back packed, d1 of them in a ciphertext. Sizes
are those that SPU finds cheapest (secretflow/spu: src/libspu/mpc/cheetah/arith/matmat_prot.cc, GetSubMatShape, and
cheetah_dot.cc, doDotOLE; a ciphertext is priced 1000, an automorphism 1, a product 1/10). A result of one block is not packed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

SLOTS = 8192
CIPHERTEXT_PRICE, AUTOMORPHISM_PRICE, PRODUCT_PRICE = 1000.0, 1.0, 0.1


@dataclass(frozen=True)
class Ciphertexts:
    """Of one cross term: `sent` encrypted, `answered` with the result; `packed`: whether results of several blocks share one."""

    sent: int
    answered: int
    packed: bool


@cache
def ciphertexts(m: int, k: int, n: int) -> Ciphertexts:
    """For a product of m x k and k x n."""
    blocks = _blocks(m, k, n, packed=True)
    if _up(m, blocks[0]) * _up(n, blocks[2]) <= 1:
        d0, d1, d2 = _blocks(m, k, n, packed=False)
        return Ciphertexts(_sent(m, k, n, d0, d1, d2), _up(m, d0) * _up(n, d2), packed=False)
    d0, d1, d2 = blocks
    answered = _up(_up(m, d0) * _up(n, d2), d1) if d1 < m * n else _up(m * n, SLOTS)
    return Ciphertexts(_sent(m, k, n, d0, d1, d2), answered, packed=True)


def _blocks(m: int, k: int, n: int, packed: bool) -> tuple[int, int, int]:
    """The cheapest sizes of blocks, the last of equal ones. With packing d1 is a power of two."""
    best, found = float("inf"), (1, 1, 1)
    for d0 in range(1, min(SLOTS, m) + 1):
        d1 = 1
        while d1 <= k and d0 * d1 <= SLOTS:
            d2 = min(n, SLOTS // d0 // d1)
            sent, results = _sent(m, k, n, d0, d1, d2), _up(m, d0) * _up(n, d2)
            automorphisms = _up(m * n, SLOTS) * d1 if packed else 0
            price = (sent + _up(results, d1)) * CIPHERTEXT_PRICE + automorphisms * AUTOMORPHISM_PRICE
            price += results * _up(k, d1) * PRODUCT_PRICE
            if price <= best:
                best, found = price, (d0, d1, d2)
            d1 = 2 * d1 if packed else d1 + 1
    return found


def _sent(m: int, k: int, n: int, d0: int, d1: int, d2: int) -> int:
    return min(_up(m, d0), _up(n, d2)) * _up(k, d1)


def _up(whole: int, part: int) -> int:
    return -(-whole // part)
