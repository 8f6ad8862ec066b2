"""Two parties and a dealer over real TCP, as threads: the same answer as the emulation, at exactly the stated cost."""

from __future__ import annotations

import time

import pytest
import torch

from mpcc.ir import dealer
from mpcc.runtime.dealer.dealing import SessionSeeds
from mpcc.runtime.dealer.material import Recipe
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.engine.evaluate import Party
from mpcc.runtime.net.transport import LinkModel, Phase, Traffic
from tests.models.programs import NAMES, SHAPE, Threads, dealt_bytes, program

UNITS = {"local": 2, "linear": 2, "relu": 4, "polynomial": 700, "curve": 80, "mixed": 80}
"""How far the secure run may be from the emulation, in units of 2^-14: what one unit in an opened value becomes."""


@pytest.mark.parametrize("insecure", [False, True], ids=["dealer", "insecure dealer"])
@pytest.mark.parametrize("name", NAMES)
def test_the_run_is_the_emulation_at_the_stated_cost(name: str, insecure: bool) -> None:
    made = program(name)
    cost, emulate = made.cost, Emulator(made)
    torch.manual_seed(3)
    with Threads(made, insecure=insecure) as session:
        dealt = session.between if insecure else session.dealing
        setup = session.between["client"].traffic[Phase.SETUP, 0]
        assert (setup.rounds, setup.bytes) == (cost.setup_rounds, cost.setup_bytes)
        assert dealt["client"].traffic[Phase.DEAL_SETUP, 0].received_bytes == cost.setup_dealer_bytes
        for number in range(3):
            x = torch.randn(SHAPE)
            output = session.run(x)[0]
            assert (output - emulate(x)[0]).abs().max() <= UNITS[name] * 2**-14
            server, client = (session.between[who].traffic[Phase.ONLINE, number] for who in ("server", "client"))
            assert (client.rounds, client.bytes) == (cost.rounds, cost.bytes)
            assert server == Traffic(
                client.received_bytes, client.sent_bytes, client.received_messages, client.sent_messages
            )
            ahead = [session.between[who].traffic[Phase.AHEAD, number] for who in ("server", "client")]
            assert (ahead[0].received_bytes, ahead[1].sent_bytes) == (cost.ahead_bytes, cost.ahead_bytes)
            received = [end.traffic[Phase.DEAL, number].received_bytes for end in dealt.values()]
            assert sum(received) == cost.dealer_bytes - (dealt_bytes(made, 0) if insecure else 0)


def test_after_the_set_up_a_party_holds_no_mask_of_a_weight() -> None:
    """They are as large as the weights, and nothing reads them again."""
    made = program("mixed")
    party, recipe, seeds = Party(made, 0), Recipe(made), SessionSeeds.fresh()
    masks = {share for share, source, _, _ in recipe.entries if source.target is dealer.weight_mask}
    message = party.setup_message(recipe.both(*seeds.numbered(0), True)[0])
    assert masks and masks <= party.fixed.keys() and message is not None
    party.finish_setup(message)
    assert not masks & party.fixed.keys()
    held = [value.untyped_storage().data_ptr() for value in party.fixed.values() if isinstance(value, torch.Tensor)]
    assert len(held) == len(set(held))


def test_an_emulated_round_costs_half_a_round_trip() -> None:
    made = program("relu")
    with Threads(made, link=LinkModel(rtt_seconds=0.1)) as session:
        start = time.monotonic()
        session.run(torch.randn(SHAPE))
        took = time.monotonic() - start
    assert took >= made.cost.rounds * 0.05  # and not a whole one: tests/runtime/test_transport.py


def test_an_emulated_link_has_its_bandwidth() -> None:
    made = program("polynomial")
    sent = made.cost.busier_bytes
    with Threads(made, link=LinkModel(bandwidth_bytes_per_s=sent / 0.3)) as session:
        start = time.monotonic()
        session.run(torch.randn(SHAPE))
        took = time.monotonic() - start
    assert took > 0.2
