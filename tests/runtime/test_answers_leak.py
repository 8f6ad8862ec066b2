"""What many answers to few inputs tell a client that follows the protocol: the head's weights without noise, nothing with it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmarks.answers import asked, attacked, cosines, local, mlp
from mpcc.ir import dealer, mpc, online
from mpcc.lowering import Settings, lower
from mpcc.lowering.flood import Exposure
from mpcc.program.program import FLOOD_REACH
from mpcc.runtime.dealer.dealing import SessionSeeds
from mpcc.runtime.dealer.randomness import noise
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import SHAPE, Threads, build, graph_of

OUTPUTS = 100
"""Two random directions in so many dimensions have a |cos| of 0.08 in the mean, of 0.25 once in eighty times."""
WITHOUT, UNCAPPED = Settings(answers=0), Settings(flood=math.inf)
"""By default the noise is at most a 32nd of the outputs' spread, here little more than is enough."""
SEEDS = SessionSeeds(bytes(32), bytes([1] * 32), bytes([2] * 32))
"""The same masks and noise each time, so that a test passes or fails each time."""
KNOWN, FOUND_NOTHING = 0.95, 0.3


def found(settings: Settings, count: int) -> Tensor:
    """|cos| of each column of the head with what the attack makes of so many answers."""
    model = mlp(OUTPUTS)
    return cosines(model, asked(attacked(model, settings), count, SEEDS))


def test_the_attack_recovers_the_head_without_noise_and_nothing_with_it() -> None:
    assert found(WITHOUT, 1024).min() > KNOWN
    assert found(Settings(), 8192).max() < FOUND_NOTHING
    assert found(UNCAPPED, 8192).max() < FOUND_NOTHING


def test_the_client_knows_the_place_of_a_local_truncation_s_step() -> None:
    """floor((X + r) / 2^f), r of its own share: what the attack sorts the answers by."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-(1 << 40), 1 << 40, (1000,), generator=generator)
    own = torch.randint(-(1 << 62), 1 << 62, (1000,), generator=generator)
    total = online.truncate_locally(x - own, 20) + online.truncate_locally(own, 20, lead=False)
    assert torch.equal(total, (x + (local("share", 20).low(own) * 2**20).long()) >> 20)


@pytest.mark.slow
def test_nor_does_it_in_as_many_answers_as_the_noise_is_made_for() -> None:
    assert found(WITHOUT, 16384).min() > KNOWN
    assert found(Settings(), 16384).max() < FOUND_NOTHING
    assert found(UNCAPPED, 16384).max() < FOUND_NOTHING


def cut(x: Tensor) -> Tensor:
    """Truncated once at its opening; the outputs' step is what one unit at 14 fraction bits becomes."""
    return mpc.mul(x, x)


def test_the_noise_is_half_a_step_times_the_root_of_the_answers() -> None:
    graph = graph_of(cut)
    for count in (1 << 10, 1 << 20):
        made = lower(graph, Settings(answers=count, flood=math.inf))
        exposure = Exposure.of(made, graph.meta["examples"])
        assert 1 <= made.flood[0] / (exposure.step * math.sqrt(count) / 2) < 1.13
        assert count <= exposure.hidden(made.flood[0]) < 1.28 * count
    share = lower(graph, Settings(answers=1 << 40, flood=0.01)).flood[0] / exposure.spread
    assert 0.0088 <= share <= 0.01
    assert lower(graph, WITHOUT).flood == (0.0,)


def test_a_step_is_what_one_unit_at_a_truncation_does() -> None:
    """u = X / 2^f at 14 fraction bits, squared: 2 |x| 2^-14; the largest of the inputs that are looked at decides."""
    graph = graph_of(cut)
    exposure = Exposure.of(lower(graph, WITHOUT), graph.meta["examples"])
    largest = max(float(x.abs().max()) for (x,) in graph.meta["examples"])
    assert exposure.step == pytest.approx(2 * largest * 2**-14, rel=0.3)


def test_a_run_is_the_emulation_and_noise_of_the_stated_size() -> None:
    made = build(cut, SHAPE, Settings())
    emulate, (size,) = Emulator(made), made.flood
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    with Threads(made) as session:
        off = torch.stack([session.run(x)[0] - emulate(x)[0] for _ in range(6)])
    assert size > 0 and off.abs().max() <= FLOOD_REACH * size + 2**-10
    assert float(off.std()) == pytest.approx(size, rel=0.2)  # 480 values: five standard errors are 0.16
    assert (off[0] - off[1]).abs().max() > size, "noise of its own for each answer"


@pytest.mark.parametrize("bits", [1, 8, 40, 59])
def test_noise_is_centred_bounded_and_of_its_size(bits: int) -> None:
    drawn = noise(bytes(32), "test", (20_000,), bits).double() / 2**bits
    assert drawn.abs().max() <= dealer.NOISE_REACH
    assert abs(float(drawn.mean())) < 5 / math.sqrt(20_000)
    assert float(drawn.std()) == pytest.approx(1.0 if bits > 1 else math.sqrt(0.75), rel=0.03)  # a bit: variance 1/4, not 1/3


def test_noise_of_no_bits_is_zero() -> None:
    assert noise(bytes(32), "test", (3,), 0).tolist() == [0, 0, 0]
