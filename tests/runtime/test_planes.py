"""Messages packed by the compiled file are those that numpy packs, byte for byte, and unpack to the same words."""

from __future__ import annotations

import pytest
import torch

from mpcc.program.layout import Place, Plane, sizes
from mpcc.runtime.engine import packing
from mpcc.runtime.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="the C files were not built here")

WORD = 8
COUNTS = (1, 7, 8, 1023, 1024, 1025, 3001)
"""Around a byte of single bits, and around the block that C takes at a time."""


def place(ring: int, count: int) -> Place:
    """Alone in its message, after a word of another's."""
    planes, start, offset = [], WORD, 0
    for bits in sizes(ring):
        planes.append(Plane(bits, start, count, offset))
        start, offset = start + -(-planes[-1].bytes // WORD) * WORD, offset + bits
    return Place("value", tuple(planes))


def empty(where: Place) -> torch.Tensor:
    """A message that has other bits everywhere."""
    last = where.planes[-1]
    return torch.full((-(-(last.start + last.bytes) // WORD) + 1,), -1, dtype=torch.int64)


@pytest.mark.parametrize("ring", range(1, 65))
def test_both_forms_make_the_same_message_and_read_the_same_words(ring: int) -> None:
    generator = torch.Generator().manual_seed(ring)
    for count in COUNTS:
        where = place(ring, count)
        values = torch.randint(-(2**62), 2**62, (count,), generator=generator) * 2 + 1
        compiled, plain = empty(where), empty(where)
        packing.write(compiled, where, values)
        packing.write_plainly(plain, where, values)
        assert torch.equal(compiled, plain)
        low = values if ring == 64 else values & ((1 << ring) - 1)
        assert torch.equal(packing.read(compiled, where), low)
        if ring < 64:
            assert torch.equal(packing.read_plainly(compiled, where), low)


def test_a_share_that_is_no_contiguous_vector_is_packed_in_order() -> None:
    share = torch.arange(24).view(4, 6).t()
    where = place(37, 24)
    message = empty(where)
    packing.write(message, where, share)
    assert packing.read(message, where).tolist() == share.reshape(-1).tolist()
