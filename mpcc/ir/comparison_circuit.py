"""The circuit of a comparison: which planes of bits it combines, and which products of their masks it needs.

The borrow of a subtraction over a window of bits, chunk by chunk: G says that a chunk borrows, P that it passes a borrow on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNKS = 4
"""A comparison looks at a window of CHUNKS chunks of 4 bits and a sign bit."""
WINDOW_BITS = 4 * CHUNKS
AND_TERMS: tuple[tuple[int, ...], ...] = ((0, 1), (0, 2, 3), (0, 2, 4, 5))
"""borrow = G3 ^ P3 G2 ^ P3 P2 G1 ^ P3 P2 P1 G0 over the planes P3, G2, P2, G1, P1, G0 (G3 is linear)."""
AND_PLANES = 6


def subsets() -> list[tuple[int, ...]]:
    """The products of plane masks that the dealer gives, in order."""
    found: list[tuple[int, ...]] = []
    for term in AND_TERMS:
        for code in range(1, 1 << len(term)):
            chosen = tuple(t for i, t in enumerate(term) if code >> i & 1)
            if len(chosen) > 1 and chosen not in found:
                found.append(chosen)
    return found


SUBSETS = subsets()


def _rows(term: Sequence[int]) -> Tensor:
    """For each subset of a term, as a binary number: where its share lies among 1, the masks, and their products."""
    rows = []
    for code in range(1 << len(term)):
        chosen = tuple(t for i, t in enumerate(term) if code >> i & 1)
        single = 1 + chosen[0] if len(chosen) == 1 else 0
        rows.append(1 + AND_PLANES + SUBSETS.index(chosen) if len(chosen) > 1 else single)
    return torch.tensor(rows)


AND_ROWS = tuple(_rows(term) for term in AND_TERMS)
