"""Fixed-point emulation of many calls at once: the same integers as one call at a time, and as the kernels of a party."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from mpcc.ir import dealer, mpc, online
from mpcc.ir.ring import unpack, words
from mpcc.program import Program
from mpcc.program.check import check_masks
from mpcc.runtime.engine.emulate import Emulator, _leaf
from tests.models.programs import NAMES, SHAPE, build, program


@pytest.mark.parametrize("name", NAMES)
def test_many_calls_at_once_are_the_calls_one_by_one(name: str) -> None:
    emulator = Emulator(program(name))
    images = torch.randn((5, *SHAPE), generator=torch.Generator().manual_seed(1))
    emulator.at_once = 3
    together = emulator.calls(images)[0]
    torch.testing.assert_close(together, torch.stack([emulator(image)[0] for image in images]), rtol=0, atol=0)


def test_an_opening_that_nothing_reads_changes_nothing() -> None:
    made = program("linear")
    document = json.loads(made.to_json())
    document["dealer"].append({"name": "spare", "op": "mask", "args": [list(SHAPE)]})
    document["online"] += [
        {"name": "spare_share", "op": "correlation", "args": ["spare"]},
        {"name": "spare_masked", "op": "mask_with", "args": ["input_0", "spare_share"]},
        {"name": "spare_opened", "op": "open", "args": ["spare_masked", 64]},
    ]
    longer = Program.from_json(json.dumps(document), made.constants)
    check_masks(longer)
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(Emulator(longer)(image), Emulator(made)(image), rtol=0, atol=0)


def test_a_watched_value_is_what_the_program_computes() -> None:
    made = program("linear")
    emulator = Emulator(made)
    name, scale = made.outputs[0]
    source = str(made.nodes[name].args[0])
    images = torch.randn((2, *SHAPE), generator=torch.Generator().manual_seed(2))
    outputs, kept = emulator.watched([images], [source])
    torch.testing.assert_close((kept[source].double() / scale).float(), outputs[0], rtol=0, atol=0)


@pytest.mark.parametrize("magnitude", [8, 20, 40, 60])
def test_a_comparison_is_the_one_over_the_dealers_tables(magnitude: int) -> None:
    """Inside the window and outside of it, where both are wrong in the same way."""
    low, threshold, count = 6, 37, 200
    generator = torch.Generator().manual_seed(magnitude)
    c = torch.randint(-(2**magnitude), 2**magnitude, (count,), generator=generator)
    mask = torch.zeros(count, dtype=torch.int64)
    tables, sign = dealer.tables(mask, low), torch.zeros(words(count), dtype=torch.int64)
    leaf = online.leaves(c, threshold, low, tables, sign)
    bits = online.and_planes(online.planes(leaf), leaf, None, None)
    assert torch.equal(unpack(bits, count), _leaf(c, threshold, low, tables, sign))


def test_sums_are_joined_and_the_integers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thresholds, of which each selects x and x^2 twice; one of the sums is read twice, so it stays."""

    def pieces(x: Tensor) -> Tensor:
        y = mpc.square(x)
        near, far = mpc.less(x, 0.5), mpc.less(x, -0.5)
        parts = [mpc.scale(mpc.select(bit, z), factor) for bit in (near, far) for z in (x, y) for factor in (3.0, -0.5)]
        total = parts[0]
        for part in parts[1:]:
            total = mpc.add(total, part)
        return mpc.mul(mpc.add(total, y), total)

    made, images = build(pieces), torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(4))
    joined = Emulator(made)
    monkeypatch.setattr("mpcc.runtime.engine.emulate.flattened", lambda graph: graph)
    plain = Emulator(made)
    steps = [sum(map(len, one.steps.segments)) for one in (joined, plain)]
    assert steps[0] < steps[1]
    assert torch.equal(joined.calls(images)[0], plain.calls(images)[0])


@pytest.mark.parametrize("name", NAMES)
def test_threads_give_the_same_integers(name: str) -> None:
    emulator, before = Emulator(program(name)), torch.get_num_threads()
    images = torch.randn((7, *SHAPE), generator=torch.Generator().manual_seed(3))
    emulator.at_once = 2
    watched = str(emulator.program.nodes[emulator.program.outputs[0][0]].args[0])
    try:
        torch.set_num_threads(3)
        found, kept = emulator.watched([images], [watched])
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        expected, alone = emulator.watched([images], [watched])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], expected[0]) and torch.equal(kept[watched], alone[watched])


def test_selections_of_one_value_share_its_truncation() -> None:
    def twice(x: Tensor) -> Tensor:
        y = mpc.square(x)
        return mpc.add(mpc.select(mpc.less(x, 0.5), y), mpc.select(mpc.less(x, -0.5), y))

    emulator = Emulator(build(twice))
    x = torch.linspace(-2, 2, 80).reshape(SHAPE)
    assert (emulator(x)[0] - x.square() * ((x < 0.5).float() + (x < -0.5).float())).abs().max() < 2e-3
    assert emulator.kernels.cut == {}


@pytest.mark.parametrize("name", NAMES)
def test_where_torch_multiplies_no_integers_the_answers_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: every product goes by way of float64."""
    images = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    expected = Emulator(program(name)).calls(images)
    monkeypatch.setattr("mpcc.ir.limbs.has_integers", lambda x: False)
    assert all(map(torch.equal, Emulator(program(name)).calls(images), expected))
