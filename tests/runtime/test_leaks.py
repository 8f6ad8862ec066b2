"""What crosses the wire is uniform, and differs from run to run, whatever the input."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import fx

from mpcc.ir import online
from mpcc.ir.info import info_of
from mpcc.program.program import Program
from mpcc.runtime.dealer import material
from mpcc.runtime.dealer.material import Recipe, Seeds
from mpcc.runtime.dealer.randomness import derive, fresh_seed, uniform
from mpcc.runtime.engine import packing
from mpcc.runtime.net.transport import Phase, Slot, Tap
from tests.models.programs import Threads, build, mixed, program, waved, weights

Array = np.ndarray[Any, Any]
RUNS = 32
UNLIKELY = 1e-6
Caught = dict[tuple[str, str, Slot], bytes]
"""What crossed in one inference: (channel, direction, message) -> payload, without what fills its last word."""


def caught(made: Program, inputs: Mapping[str, torch.Tensor], runs: int = RUNS) -> dict[str, list[Caught]]:
    """All that the client sends and receives of `runs` inferences with each input, but for the output."""
    seen: defaultdict[int, Caught] = defaultdict(dict)

    def tap(channel: str) -> Tap:
        def see(direction: str, slot: Slot, payload: memoryview) -> None:
            here = seen[slot.number]
            if slot.phase == Phase.ONLINE and slot.place < len(made.messages):
                size = made.messages[slot.place].bytes(1 if direction == "sent" else 0)
                here[channel, direction, slot._replace(number=0)] = bytes(payload[:size])
            elif slot.phase == Phase.AHEAD:
                here[channel, direction, slot._replace(number=0)] = bytes(payload[: sum(place.bytes for place in made.ahead)])
            elif slot.phase == Phase.DEAL and len(payload):
                here[channel, direction, slot._replace(number=0)] = bytes(payload)

        return see

    taps = {channel: tap(channel) for channel in ("client-server", "client-dealer")}
    with Threads(made, taps=taps) as session:
        for x in inputs.values():
            for _ in range(runs):
                session.run(x)
    return {name: [seen[i * runs + k] for k in range(runs)] for i, name in enumerate(inputs)}


def frequencies(runs: list[Caught]) -> Array:
    """How often each value of a byte occurs."""
    return np.bincount(np.frombuffer(b"".join(p for run in runs for p in run.values()), np.uint8), minlength=256)


def constancy(runs: list[Caught]) -> float:
    """p-value that every bit of the wire, over the runs, is a fair coin: a bit that stays the same is seen."""
    first = set(runs[0])
    common = sorted(key for key in first if all(key in run for run in runs))
    rows = np.stack([np.unpackbits(np.frombuffer(b"".join(run[key] for key in common), np.uint8)) for run in runs])
    ones, half = rows.sum(axis=0, dtype=np.int64), len(runs) / 2
    statistic = float(((ones - half) ** 2).sum() / (len(runs) / 4))
    return float(stats.chi2.sf(statistic, rows.shape[1]))


WHOLE = (1, 8, 16)
INPUTS = {"zeros": torch.zeros(WHOLE), "large": torch.full(WHOLE, 1.5)}


def whole_words() -> Program:
    """Every kind of message; of 64 values each, so that the last word of packed bits has no padding, which is constant."""
    return build(mixed, WHOLE, **weights())


@pytest.mark.parametrize("function", [mixed, waved])
def test_wire_bytes_are_uniform_for_two_different_inputs(function: Callable[..., Any]) -> None:
    """Of what crosses, and of what it opens: chi-square of byte values for each input and between both, and of each bit
    over the runs. No message comes twice."""
    made = build(function, WHOLE, **weights())
    found = caught(made, INPUTS)
    for seen in (found, {name: [opened(made, run) for run in runs] for name, runs in found.items()}):
        tables = [frequencies(seen[name]) for name in INPUTS]
        for name, table in zip(INPUTS, tables, strict=True):
            assert table.sum() > 10_000  # forty of each byte
            assert stats.chisquare(table).pvalue > UNLIKELY, name
            assert constancy(seen[name]) > UNLIKELY, name
        assert stats.chi2_contingency(np.stack(tables)).pvalue > UNLIKELY
    messages = [m for runs in found.values() for run in runs for m in run.values() if len(m) >= 16]
    assert len(set(messages)) == len(messages)


def test_a_value_that_leaves_bare_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same test on parties that forget one mask: it can fail. (`check_masks` refuses such programs, see there.)"""
    made = whole_words()
    mask = [n for n in made.online.graph.nodes if n.target is online.mask_with and info_of(n).phase == "online"][-1]
    assert isinstance(mask.args[1], fx.Node)
    forgotten, drawn = dict(made.correlations)[mask.args[1].name], material.uniform

    def uniform(seed: bytes, label: str, shape: Sequence[int], *draw: Any) -> torch.Tensor:
        return torch.zeros(tuple(shape), dtype=torch.int64) if forgotten in label.split() else drawn(seed, label, shape, *draw)

    monkeypatch.setattr(material, "uniform", uniform)
    found = caught(made, {"large": INPUTS["large"]})["large"]
    assert constancy([opened(made, run) for run in found]) < UNLIKELY


def opened(made: Program, run: Caught) -> Caught:
    """What both directions of each message open: totals of arithmetic values, xor of bits. The client's part may have come
    before the input; what it sends alone is opened to the server only, by a part of its own that nobody sees."""
    totals: Caught = {}
    early = words_of(run.get(("client-server", "sent", Slot(Phase.AHEAD)), b""))
    ahead = {place.name: packing.read(early, place) for place in made.ahead}
    for index, message in enumerate(made.messages):
        sides = []
        for direction in ("sent", "received"):
            sides.append(words_of(run["client-server", direction, Slot(Phase.ONLINE, 0, index)]))
        client = ahead | {place.name: packing.read(sides[0], place) for place in message.sides[1]}
        for place in message.sides[0]:
            one, other = client[place.name], packing.read(sides[1], place)
            bits = made.nodes[place.name].target is online.open_bits
            total = (one ^ other if bits else one + other).contiguous()
            width = sum(plane.bits for plane in place.planes)
            low = np.unpackbits(total.numpy().view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")[:, :width]
            totals[place.name, "opened", Slot(Phase.ONLINE, 0, index)] = np.packbits(low).tobytes()
    return totals


def words_of(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data + bytes(-len(data) % 8 or 8)), dtype=torch.int64)


@pytest.mark.parametrize("name", ["mixed", "curve"])
def test_streams_are_distinct(name: str) -> None:
    """No two values of a program, of two inferences, or of the two parties come from the same key stream."""
    recipe = Recipe(program(name))
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
        assert len(drawn) > 5
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
