"""How many bits of an opening travel: from the uses of a value, and never fewer than these need."""

from __future__ import annotations

import torch

from mpcc.ir import mpc, online
from mpcc.program.layout import places, ring_of, sizes
from mpcc.runtime.engine import packing
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import NAMES, SHAPE, Threads, build, program, weights


def rings(made: object) -> list[int]:
    return [ring_of(node) for node in made.online.graph.nodes if node.target is online.open_]  # type: ignore[attr-defined]


def test_a_compared_value_sends_the_window_alone() -> None:
    """|x| < 10, say, at 16 fraction bits: 21 bits are 3 bytes, not 8."""
    made = build(lambda x: mpc.scale(mpc.less(x, 0.5), 2.0))
    assert rings(made)[0] == 24


def test_a_value_truncated_at_its_opening_sends_its_magnitude() -> None:
    assert max(rings(build(lambda x: mpc.square(mpc.scale(x, 0.25))))) <= 32


def test_a_factor_of_a_product_sends_what_the_product_needs() -> None:
    """The layer's output is revealed whole, so its input is opened whole; behind it a comparison needs little."""
    assert rings(program("linear")) == [64]
    made = build(lambda x, w, b: mpc.scale(mpc.less(mpc.linear(x, w, b), 0.0), 1.0), **weights())
    assert max(rings(made)) < 64


def test_the_layout_has_no_holes_and_no_overlaps() -> None:
    for name in NAMES:
        made = program(name)
        for message in made.messages:
            taken: set[int] = set()
            for place in message.places:
                assert sum(plane.size for plane in place.planes) == ring_of(made.nodes[place.name]) // 8
                for plane in place.planes:
                    assert plane.start % plane.size == 0
                    spread = set(range(plane.start, plane.start + plane.size * plane.count))
                    assert not spread & taken
                    taken |= spread
            assert taken == set(range(message.bytes)) and message.words * 8 - message.bytes < 8
            assert message.places == places([made.nodes[name] for name in message.opens])


def test_what_is_written_is_read() -> None:
    for ring in range(8, 65, 8):
        made = build(lambda x: mpc.square(x))
        node = next(n for n in made.online.graph.nodes if n.target is online.open_)
        node.args = (node.args[0], ring)
        (place,) = places([node])
        share = torch.randint(-(2**62), 2**62, SHAPE) * 2 + torch.randint(0, 2, SHAPE)
        message = torch.zeros(-(-place.bytes // 8), dtype=torch.int64)
        packing.write(message, place, share)
        mask = -1 if ring == 64 else (1 << ring) - 1
        assert torch.equal(packing.read(message, place), share.reshape(-1) & mask)
        assert sum(sizes(ring)) == ring // 8


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
