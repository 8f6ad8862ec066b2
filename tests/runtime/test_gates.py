"""Spline gates: trees that share a payload at a point, and gates made of them, in C and in numpy, bit for bit the same."""

from __future__ import annotations

import ctypes
import secrets

import numpy as np
import pytest
import torch
from torch import Tensor

from mpcc.ir import curve, dealer
from mpcc.runtime.native import library, plain, trees

BUILDS = ("numpy", "C")


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each form of the gates in turn."""
    if request.param == "numpy":
        monkeypatch.setattr(trees, "library", lambda: None)
    elif library.library() is None:
        pytest.skip(library.description())
    return str(request.param)


def words(*shape: int) -> Tensor:
    count = int(np.prod(shape))
    return torch.frombuffer(bytearray(secrets.token_bytes(8 * count)), dtype=torch.int64).reshape(shape).clone()


def roots(count: int) -> Tensor:
    made = words(2, count, 2)
    made[0, :, 0] &= -2
    made[1, :, 0] |= 1
    return made


def shared(depth: int, point: Tensor, payload: Tensor, by: Tensor, keys: Tensor) -> Tensor:
    """Both parties' shares of all leaves added up: [count, width, 2^depth]."""
    key = trees.make_tree(by, keys, point, payload, depth)
    aes, corrections, last = trees.parts(key, len(point), depth)
    found = [plain.leaves(p, aes, trees._words(by[p]), corrections, last) for p in (0, 1)]
    native = library.library()
    if native is not None:  # the compiled leaves are these
        for party, expected in enumerate(found):
            out, root = np.empty_like(expected), trees._words(by[party])
            arguments = map(trees._pointer, (root, corrections, last, out))
            head = (party, ctypes.c_long(len(point)), depth, len(payload), aes)
            native.gates_leaves(*head, *arguments)
            assert np.array_equal(out, expected)
    return torch.from_numpy((found[0] + found[1]).view(np.int64))


@pytest.mark.parametrize(("depth", "width"), [(1, 1), (2, 3), (3, 2), (5, 4), (8, 5)])
def test_a_tree_holds_its_payload_at_its_point_and_zeros_elsewhere(build: str, depth: int, width: int) -> None:
    point, payload = torch.arange(1 << depth), words(width, 1 << depth)
    found = shared(depth, point, payload, roots(1 << depth), words(4))
    expected = torch.zeros(1 << depth, width, 1 << depth, dtype=torch.int64)
    expected[point, :, point] = payload.T
    assert torch.equal(found, expected)


def gate(
    depth: int, degree: int, low: int, fine: int, mask: Tensor, x: Tensor, pieces: int | None = None
) -> tuple[list[Tensor], Tensor]:
    """Both parties' shares of a random spline of x, and what they should add up to."""
    generator, pieces = torch.Generator().manual_seed(depth + degree), pieces or 1 << depth
    table = torch.randint(-(1 << 20), 1 << 20, (degree + 1, pieces), generator=generator)
    units = torch.randint(0, 3, (pieces,), generator=generator)
    point, payload = dealer.point(mask, depth, low), dealer.powers(mask, low, degree, fine)
    by, c = roots(x.numel()), x + mask
    key = trees.make_tree(by, words(4), point, payload, depth)
    assert len(key) == curve.key_words(x.numel(), depth, degree + 1)
    rest = (depth, low, fine, table.tolist(), units.tolist())
    shares = [trees.curve(c, by[party], key, *rest, lead=party == 0) for party in (0, 1)]
    piece = dealer.point(c, depth, low) - point & ((1 << depth) - 1)
    place = (c & ((1 << low) - 1)) - (1 << low >> 1)
    there, piece = piece < pieces, piece.clamp(max=pieces - 1)
    found = curve.coefficients([row[piece] for row in table], place, low, fine)
    total = sum(number * power for number, power in zip(found, payload, strict=True)) << units[piece]
    return shares, total * there


@pytest.mark.parametrize(("depth", "degree", "low"), [(1, 1, 1), (3, 2, 5), (4, 4, 12), (5, 3, 11), (9, 5, 7)])
def test_the_shares_of_a_gate_add_up_to_its_piece(build: str, depth: int, degree: int, low: int) -> None:
    for shape in ((3, 7), (1,), (2, 33)):
        shares, total = gate(depth, degree, low, 12, words(*shape), torch.randint(0, 1 << (depth + low), shape))
        assert torch.equal(shares[0] + shares[1], total)


@pytest.mark.parametrize(
    ("depth", "pieces", "low"), [(3, 1, 5), (4, 2, 12), (6, 4, 9), (7, 64, 7), (9, 32, 11), (20, 64, 9), (28, 8, 3)]
)
def test_beyond_a_short_table_a_gate_is_zero(build: str, depth: int, pieces: int, low: int) -> None:
    """Its last pieces, the first ones beyond, and those at the other end, from where a party counts round."""
    reach = 1 << (depth + low)
    near = torch.cat([torch.arange(-3 << low, (pieces + 3) << low, max(1, (pieces << low) // 40)), torch.randint(0, reach, (9,))])
    shares, total = gate(depth, 3, low, 12, words(len(near)), near, pieces)
    assert torch.equal(shares[0] + shares[1], total)
    assert (total == 0).any() and (total != 0).any()
    assert depth < 9 or (shares[0][total == 0] != 0).any(), "a zero is shared, not said"


def test_every_value_under_many_masks_is_one_of_two_pieces() -> None:
    depth, low = 2, 4
    x = torch.arange(1 << (depth + low)).repeat(8)
    shares, total = gate(depth, 2, low, 12, words(len(x)), x)
    assert torch.equal(shares[0] + shares[1], total)


def test_without_a_mask_a_gate_is_its_plain_form(build: str) -> None:
    """What is emulated is what parties compute where the mask is zero."""
    x, nothing = torch.randint(0, 1 << 16, (40,)), torch.zeros(40, dtype=torch.int64)
    table, units = torch.randint(-(1 << 20), 1 << 20, (4, 32)).tolist(), [1] * 32
    by = roots(40)
    key = trees.make_tree(by, words(4), dealer.point(nothing, 5, 11), dealer.powers(nothing, 11, 3, 12), 5)
    shares = [trees.curve(x, by[party], key, 5, 11, 12, table, units, lead=party == 0) for party in (0, 1)]
    assert torch.equal(shares[0] + shares[1], curve.curve(x, None, None, 5, 11, 12, table, units))


def test_both_builds_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    if library.library() is None:
        pytest.skip(library.description())
    by, keys, mask, x = roots(50), words(4), words(50), torch.randint(0, 1 << 16, (50,))
    table, units = torch.randint(-(1 << 20), 1 << 20, (5, 16)).tolist(), [0, 2] * 8
    made = []
    for _ in BUILDS:
        key = trees.make_tree(by, keys, dealer.point(mask, 4, 12), dealer.powers(mask, 12, 4, 13), 4)
        made.append((key, *(trees.curve(x, by[p], key, 4, 12, 13, table, units, lead=p == 0) for p in (0, 1))))
        monkeypatch.setattr(trees, "library", lambda: None)
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_threads_share_a_gate_and_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    if library.library() is None:
        pytest.skip(library.description())
    made, threads = [], torch.get_num_threads()
    by, keys, mask, x = roots(50), words(4), words(50), torch.randint(0, 1 << 16, (50,))
    table, units = torch.randint(-(1 << 20), 1 << 20, (5, 16)).tolist(), [0, 2] * 8
    monkeypatch.setattr(trees, "LEAVES_A_THREAD", 16)
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            key = trees.make_tree(by, keys, dealer.point(mask, 4, 12), dealer.powers(mask, 12, 4, 13), 4)
            made.append((key, *(trees.curve(x, by[p], key, 4, 12, 13, table, units, lead=p == 0) for p in (0, 1))))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_numbers_stay_below_what_a_compiled_gate_holds() -> None:
    table = [[3, -5], [1 << 20, 2], [-(1 << 19), 0]]
    largest = max(
        max(abs(int(v)) for v in curve.coefficients([torch.tensor(a) for a in column], torch.tensor(place), 6, 0))
        for column in zip(*table, strict=True)
        for place in (-32, -1, 0, 31)
    )
    assert largest <= curve.largest_number(table) < curve.MOST_NUMBER


def test_aes_is_aes() -> None:
    """FIPS 197, appendix C.1, through the hash of a node: s(s^-1(x)) = x."""
    key, text = bytes(range(16)), bytes(range(0, 256, 17))
    cipher = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")
    mixed = np.frombuffer(text, np.uint64)
    node = np.array([[mixed[1] ^ mixed[0], mixed[0]]], np.uint64)
    assert (plain.Hash(key)(node) ^ mixed).tobytes() == cipher
