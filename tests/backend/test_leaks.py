"""What crosses the wire is uniform, and differs from run to run, whatever the input."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from scipy import stats

from mpcc.backend.material import Recipe, Seeds
from mpcc.backend.randomness import derive, fresh_seed, uniform
from mpcc.backend.transport import Phase, Slot

from .programs import SHAPE, Threads, program

RUNS = 12


def test_wire_bytes_are_uniform_for_two_different_inputs() -> None:
    """Chi-square of byte values, per input and per position in the 8-byte words; and no message comes twice."""
    made = program("mixed")
    caught: defaultdict[str, list[bytes]] = defaultdict(list)
    which = ["setup"]

    def tap(direction: str, slot: Slot, payload: memoryview) -> None:
        last = slot.phase == Phase.ONLINE and slot.place == len(made.messages)  # the output itself
        if not last and len(payload):
            caught[which[0]].append(bytes(payload))

    taps = {"client-owner": tap, "client-dealer": tap}
    inputs = {"zeros": torch.zeros(SHAPE), "large": torch.full(SHAPE, 1.5)}
    with Threads(made, taps=taps) as session:
        for name, x in inputs.items():
            which[0] = name
            for _ in range(RUNS):
                session.run(x)
    for name in inputs:
        values = np.frombuffer(b"".join(caught[name]), np.uint8).reshape(-1, 8)
        assert len(values) > 5000
        for column in range(8):
            counts = np.bincount(values[:, column], minlength=256)
            assert stats.chisquare(counts).pvalue > 1e-6, (name, column)
    messages = [m for name in caught for m in caught[name] if len(m) >= 16]
    assert len(set(messages)) == len(messages)


def test_streams_are_distinct() -> None:
    """No two values of a program, of two inferences, or of the two parties come from the same key stream."""
    recipe = Recipe(program("mixed"))
    session = [fresh_seed(), fresh_seed()]
    seen = set()
    for party in (0, 1):
        shares = recipe.expand(party, Seeds.of(session[party], 0), True)
        drawn = [value for value in shares.values() if value is not None]
        for number in range(3):
            shares = recipe.expand(party, Seeds.of(session[party], number), False)
            drawn += [value for value in shares.values() if value is not None]
        for value in drawn:
            seen.add(value.reshape(-1)[:2].numpy().tobytes())
        assert len(drawn) > 10
        if party == 0:
            first = len(drawn)
    assert len(seen) == first + len(drawn)


def test_labels_and_seeds_part_streams() -> None:
    seed = fresh_seed()
    assert not torch.equal(uniform(seed, "a", (4,)), uniform(seed, "b", (4,)))
    assert not torch.equal(uniform(seed, "a", (4,)), uniform(fresh_seed(), "a", (4,)))
    assert torch.equal(uniform(seed, "a", (4,)), uniform(seed, "a", (8,))[:4])
    assert derive(seed, "x") != derive(seed, "y")
    assert uniform(seed, "a", (0, 3)).shape == (0, 3)
