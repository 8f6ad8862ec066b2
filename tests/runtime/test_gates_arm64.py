"""Spline gates compiled for arm64 give the bits that numpy gives: gates.c, cross-compiled, run by an emulated processor."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mpcc.ir.curve import grown_levels
from mpcc.runtime.native import plain, trees

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
SOURCE = Path(__file__).with_name("gates_vectors.c")
NATIVE = Path(plain.__file__).parent
CASES = (
    (1, 1, 2, 1, 1, 2), (13, 3, 3, 5, 12, 8), (40, 4, 5, 12, 13, 16), (9, 5, 4, 11, 10, 32), (3, 9, 3, 7, 9, 512),
    (17, 2, 8, 6, 12, 4), (19, 6, 3, 5, 12, 4), (11, 9, 4, 9, 10, 64), (10, 7, 2, 3, 4, 1), (9, 4, 3, 6, 9, 8),
)  # fmt: skip
"""Elements, depth, words of the payload, bits of a place, bits that are dropped, pieces: odd numbers of each, more than a batch,
and tables of fewer pieces than a tree has leaves."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, compiled with the flags of setup.py."""
    for tool in (COMPILER, EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")
    made = tmp_path_factory.mktemp("arm64") / "vectors"
    flags = ["-O3", "-march=armv8-a+crypto", "-static", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
    subprocess.run([COMPILER, *flags, str(SOURCE), "-o", str(made)], check=True)
    return made


class Case:
    """Random trees and gates of one shape."""

    def __init__(self, shape: tuple[int, ...], party: int, with_units: bool, draw: np.random.Generator) -> None:
        self.count, self.depth, self.width, self.low, self.fine, pieces = shape
        self.party, self.with_units, leaves = party, with_units, 1 << self.depth

        def words(*size: int) -> plain.Words:
            return draw.integers(0, 1 << 64, size, np.uint64)

        self.keys, self.roots = words(4), (words(self.count, 2), words(self.count, 2))
        self.roots[0][:, 0] &= ~np.uint64(1)
        self.roots[1][:, 0] |= np.uint64(1)
        self.point, self.payload = words(self.count) % np.uint64(leaves), words(self.width, self.count)
        self.opened = words(self.count)
        self.table = draw.integers(-(1 << 18), 1 << 18, (self.width, pieces))
        self.units = draw.integers(0, 4, pieces) if with_units else np.zeros(pieces, np.int64)

    def sent(self) -> bytes:
        """What the program reads."""
        grown = grown_levels(self.depth, len(self.units))
        head = (self.count, self.depth, self.width, self.low, self.fine, self.party, self.with_units, grown)
        numbers, sizes = trees.turned(tuple(map(tuple, self.table.tolist())), tuple(self.units.tolist()), 1 << grown)
        given = (np.array(head), self.keys, *self.roots, self.point, self.payload, self.opened, numbers.astype(np.int64), sizes)
        return b"".join(part.astype(np.uint64).tobytes() for part in given)

    def expected(self) -> bytes:
        """What it is to answer, by numpy."""
        secret, root = self.keys.tobytes(), self.roots[self.party]
        corrections, last = plain.make(self.depth, secret, self.roots, self.point, self.payload)
        leaves = plain.leaves(self.party, secret, root, corrections, last)
        rest = (self.low, self.fine, secret, root, corrections, last, self.opened, self.table, self.units)
        return b"".join(part.tobytes() for part in (corrections, last, leaves, plain.curve(self.party, self.depth, *rest)))


def cases() -> Iterator[Case]:
    draw = np.random.default_rng(1)
    for shape in CASES:
        for party in (0, 1):
            for with_units in (False, True):
                yield Case(shape, party, with_units, draw)


def test_every_bit_is_that_of_numpy(program: Path) -> None:
    given = list(cases())
    sent = b"".join(case.sent() for case in given)
    done = subprocess.run([EMULATOR, "-cpu", "max", str(program)], input=sent, capture_output=True, check=True)
    answers, start = done.stdout, 0
    for case in given:
        expected = case.expected()
        assert answers[start : start + len(expected)] == expected, (case.count, case.depth, case.width, case.party)
        start += len(expected)
    assert start == len(answers)
