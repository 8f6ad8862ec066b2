"""What `mpcc run` predicts for its bundle, and what it says, and does, where a run took much longer or shorter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpcc.approximate import Plan
    from mpcc.cost import Network
    from mpcc.cost.machine import Machine
    from mpcc.program import Program

MOST_OFF = 0.25
"""Of the predicted seconds. On an idle machine that was measured they are within a tenth."""
FIXED_SECONDS = 0.02
"""What a run may take beyond its prediction whatever its size: three processes are woken for each inference, by a scheduler that
hands out slices of some milliseconds. Two linear layers were predicted to take 0.2 ms and took 4.5 ms."""
FIRST_SECONDS = 0.06
"""What the first inference of a session may take beyond the others, whatever its size: code and memory are touched for the
first time. On the digits ViT, six sessions: 7 to 57 ms more than the median of the others; on ViT-Lite nothing of 350 ms."""


@dataclass(frozen=True)
class Predicted:
    """The cost of one inference. `seconds`: None where nobody predicted any. `of`: on whose machine, over which network.

    `machine`: the measurement that the seconds rest on; None for the reference, and for figures that came with the bundle.
    """

    rounds: int
    bytes: int
    seconds: float | None
    of: str
    machine: Machine | None = None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"rounds": self.rounds, "bytes": self.bytes, "seconds": self.seconds, "seconds_of": self.of}

    def verdict(self, seconds: Sequence[float]) -> str | None:
        """What to say of the seconds that the inferences of a session took, where they are far from the prediction.

        A measurement of this machine that is contradicted is noted as stale: the next prediction measures anew.
        """
        if self.seconds is None:
            return None
        took = typical(seconds)
        within = max(MOST_OFF * self.seconds, FIXED_SECONDS)
        if -within <= took - self.seconds <= within + (FIRST_SECONDS if len(seconds) == 1 else 0.0):
            return None
        off = f"This is {took / self.seconds - 1:+.0%} off the prediction"
        if self.machine is None:
            return f"{off}, which is that of {self.of}."
        if len(seconds) == 1 and took > self.seconds:
            return f"{off}; one inference, the first of its session, says little: --repeat 5 leaves the first one out."
        if self.machine.contradicted():
            return f"{off}: the next prediction measures this machine anew."
        if self.machine.alone:
            return f"{off}, which is that of a party with this machine to itself."
        return f"{off}, though this machine was measured again today: other work keeps it busy."


def on_device(predicted: Predicted, device: str) -> Predicted:
    """Without seconds where parties compute on a GPU: prices are of CPUs, and neither contradicts the other."""
    if device == "cpu":
        return predicted
    return replace(predicted, seconds=None, of=f"{device}, whose speed no price knows", machine=None)


def typical(seconds: Sequence[float]) -> float:
    """The middle of what the inferences of a session took, without the first where there are others."""
    compared = sorted(seconds[1:] or seconds)
    return compared[len(compared) // 2]


def here(program: Program, link: Network | None) -> Predicted:
    """For three processes of this machine, over an emulated link or none; whatever machine the bundle was made for."""
    from mpcc import registry
    from mpcc.cost import Network
    from mpcc.cost.machine import Machine
    from mpcc.search.program_cost import program_estimate
    from mpcc.search.target import PROTOCOL

    network = link or Network("no network", 0.0, math.inf, "messages from process to process")
    protocol, machine = registry.protocol(PROTOCOL), Machine.kept()
    compute = protocol.compute if machine is None else machine.compute
    seconds = float(program_estimate(program, protocol, network, compute).seconds)
    of = "the reference machine" if machine is None else "this machine"
    return Predicted(program.cost.rounds, program.cost.bytes, seconds, of, machine)


def elsewhere(program: Program, plan: Plan) -> Predicted:
    """For parties on machines of their own: the seconds that the bundle was made with, of the network that it was made for."""
    from mpcc.search.target import PROTOCOL

    notes = plan.notes
    seconds, link = notes.get("seconds"), notes.get("network")
    known = notes.get("protocol") == PROTOCOL and isinstance(seconds, int | float) and seconds > 0
    of = f"the network that the plan was made for ({link})"
    return Predicted(program.cost.rounds, program.cost.bytes, float(seconds) if known else None, of)  # type: ignore[arg-type]
