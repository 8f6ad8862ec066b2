"""How many bits of an opening travel: from the uses of a value, and never fewer than these need."""

from __future__ import annotations

import itertools

import pytest
import torch

from mpcc.ir import comparison_circuit, mpc, online
from mpcc.program.layout import places, ring_of, sizes
from mpcc.runtime.engine import packing
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import NAMES, SHAPE, Threads, build, program, weights


def rings(made: object) -> list[int]:
    return [ring_of(node) for node in made.online.graph.nodes if node.target is online.open_]  # type: ignore[attr-defined]


def test_a_compared_value_sends_the_window_alone() -> None:
    """16 bits and a sign, whatever lies below them is dropped before."""
    made = build(lambda x: mpc.scale(mpc.less(x, 0.5), 2.0))
    assert rings(made)[0] == comparison_circuit.WINDOW_BITS + 1


def test_a_value_truncated_at_its_opening_sends_its_magnitude() -> None:
    """|x| < 8, say, at 14 fraction bits: 17 bits, and 4 for the truncation of the last one, signs and the unforeseen."""
    assert max(rings(build(lambda x: mpc.square(mpc.scale(x, 0.25))))) <= 22


def test_a_value_that_is_also_used_whole_is_opened_whole() -> None:
    made = build(lambda x, w, b: mpc.add(mpc.linear(x, w, b), mpc.sum(mpc.square(x), (-1,), True)), **weights())
    (opened,) = (node for node in made.online.graph.nodes if node.target is online.open_)
    assert opened.args[0].args[0].op == "placeholder" and ring_of(opened) == 64


@pytest.mark.parametrize("name", NAMES)
def test_a_share_is_cut_no_further_than_its_opening_is_right(name: str) -> None:
    """After f bits were dropped of both shares their sum is right modulo 2^(64 - f)."""
    for node in program(name).online.graph.nodes:
        if node.target is online.open_ and (share := node.args[0].args[0]).target is online.truncate_locally:
            assert ring_of(node) <= 64 - share.args[1]


def test_a_factor_of_a_product_sends_what_the_product_needs() -> None:
    """The layer's output is revealed whole, so its input is opened whole; behind it a comparison needs little."""
    assert rings(program("linear")) == [64]
    made = build(lambda x, w, b: mpc.scale(mpc.less(mpc.linear(x, w, b), 0.0), 1.0), **weights())
    assert max(rings(made)) < 64


def test_the_layout_has_no_holes_and_no_overlaps() -> None:
    for name in NAMES:
        made = program(name)
        for message, party in itertools.product(made.messages, (0, 1)):
            taken: set[int] = set()
            for place in message.sides[party]:
                assert sum(plane.bits for plane in place.planes) == ring_of(made.nodes[place.name])
                for plane in place.planes:
                    assert plane.start * 8 % max(8, plane.bits) == 0
                    spread = set(range(plane.start, plane.start + plane.bytes))
                    assert not spread & taken
                    taken |= spread
            assert taken == set(range(message.bytes(party))) and message.words(party) * 8 - message.bytes(party) < 8
            assert {place.name for place in message.sides[party]} <= set(message.opens)


def test_what_is_written_is_read() -> None:
    """Of every width, also where the last byte is not full."""
    made = build(lambda x: mpc.square(x))
    node = next(n for n in made.online.graph.nodes if n.target is online.open_)
    for ring in range(1, 65):
        node.args = (node.args[0], ring)
        (place,) = places([node])
        share = torch.randint(-(2**62), 2**62, SHAPE) * 2 + torch.randint(0, 2, SHAPE)
        share[..., 0] = -1
        message = torch.zeros(-(-place.bytes // 8), dtype=torch.int64)
        packing.write(message, place, share)
        mask = -1 if ring == 64 else (1 << ring) - 1
        assert torch.equal(packing.read(message, place), share.reshape(-1) & mask)
        assert sum(sizes(ring)) == ring and place.bytes < share.numel() * ring / 8 + len(place.planes)


def test_narrow_openings_at_twice_the_calibrated_extremes() -> None:
    """The bound that the rings are chosen for is the margin times what calibration saw."""
    made = program("mixed")
    assert min(rings(made)) < 64
    emulate = Emulator(made)
    torch.manual_seed(0)
    extreme = torch.randn(16, *SHAPE[1:]).abs().max()
    with Threads(made) as session:
        for sign in (-1.0, 1.0):
            x = torch.full(SHAPE, float(sign * extreme))
            assert (session.run(x)[0] - emulate(x)[0]).abs().max() < 0.02
