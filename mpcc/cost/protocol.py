"""A protocol: who takes part, who is trusted with what, and what each primitive costs.

A new protocol is one file in `costmodels/` with one `Protocol` constant. `prices` is a table

    name of the primitive -> formula(Call) -> Price

over primitives of the nn level (`softmax`, `layer_norm`, `linear` ...) and of the mpc level (`mul`, `less`, ...).
A primitive that has no formula, or a formula that does not know a case, is `MissingCost`; it is never free by silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mpcc.errors import MissingCost
from mpcc.security import Trust

from .network import Network
from .price import FREE, Amount, Call, Price, Shape, Work, broadcast, elements

Formula = Callable[[Call], Price]


@dataclass(frozen=True)
class Compute:
    """Local work of one party, in seconds, and where it was measured.

    Price tables count rounds, bytes and multiply-adds; a scheduled program also counts its kernels, the calls of torch
    operations that they make, the elements that these write, and the words of the leaves of spline gates. What a round and a
    byte cost here is the transport's own work; latency and bandwidth are the network's. `name` says whose figures these are:
    "reference" (a protocol's own), "this machine", or "a file".
    """

    source: str
    per_round: float = 0.0
    per_byte: float = 0.0
    per_mac: float = 0.0
    per_kernel: float = 0.0
    per_call: float = 0.0
    per_element: float = 0.0
    per_leaf: float = 0.0
    name: str = "reference"

    @property
    def note(self) -> dict[str, str]:
        """What plans, reports and --json say of these figures. The fingerprint is equal for equal constants."""
        constants = {name: value for name, value in asdict(self).items() if name.startswith("per_")}
        digest = hashlib.sha256(json.dumps(constants, sort_keys=True).encode()).hexdigest()
        return {"name": self.name, "source": self.source, "fingerprint": digest[:12]}


@dataclass(frozen=True)
class Protocol:
    """One protocol with its prices.

    `rtt_per_round`: what one counted round takes, in round trips: 0.5 for messages sent when ready (SPU's hops and
    mpcc's exchange), 2 for CrypTen's all_reduce over gloo. `link_share`: part of the total bytes that the busiest
    direction of a link carries, 1 / parties when all speak alike; `setup_link_share` likewise for set-up. `overlap`:
    the part of the added-up rounds that whole programs were measured to take. `fixed`: paid once a program.
    `concurrent`: whether parts that do not wait for one another share their messages; else a program's rounds add up
    operator by operator, and `executes` says how that is known. `opens`: primitives that open their operands where a
    value is opened once for all of them; empty where each opens its own. `scheduled`: mpcc's engine runs it, so costs are
    read off the scheduled program and `prices` serve only where there is none. `baseline` names the protocol by which
    the model as it was is priced, where that is another one. `aliases` are former names, understood for one more release.
    `circuits`: its engine gives every value the same fraction bits, so what runs, and is priced, is the mpc graph with a scale
    for each value (`mpcc.lowering.fixed_scale`). For people: `dealer` (whether there is one), `collusion` (what it bears),
    `engine` (the command that runs it) and `advice`.
    """

    name: str
    title: str
    parties: int
    adversary: str
    correlations: str  # who makes the correlated randomness
    source: str
    prices: Mapping[str, Formula]
    compute: Compute
    ring_bits: int = 64
    rtt_per_round: float = 0.5
    overlap: float = 1.0
    fixed: Price = FREE
    link_share: float = 0.5
    setup_link_share: float = 1.0
    concurrent: bool = False
    executes: str = "one operator after the other"
    opens: frozenset[str] = frozenset()
    scheduled: bool = False
    baseline: str | None = None
    aliases: tuple[str, ...] = ()
    circuits: bool = False
    dealer: bool = False
    collusion: str = ""
    engine: str = ""
    advice: str = ""

    def price(
        self,
        primitive: str,
        shapes: Sequence[Shape],
        visibility: Sequence[str] | None = None,
        *,
        output: Shape | None = None,
        site: str | None = None,
        **attrs: Any,
    ) -> Price:
        """The price of one call. Sizes may be sympy symbols. `visibility` is "secret" or "public" per operand (default:
        all secret); `output` is needed where it does not follow from the operands (convolutions, pools).

        MissingCost names this protocol, the primitive and the site.
        """
        formula = self.prices.get(primitive)
        if formula is None:
            raise self.missing(primitive, site)
        operands = tuple(tuple(shape) for shape in shapes)
        seen = tuple(visibility) if visibility is not None else ("secret",) * len(operands)
        shape = tuple(output) if output is not None else _output(primitive, operands)
        call = Call(primitive, operands, seen, shape, attrs)
        try:
            price = formula(call)
        except MissingCost as error:
            raise self.missing(primitive, site, error.what) from error
        return self._with_local_work(price, call)

    @property
    def trust(self) -> Trust:
        """What the security statement says of it."""
        return Trust(self.title, self.parties, self.adversary, self.correlations, self.collusion)

    def missing(self, primitive: str, site: str | None, why: str | None = None) -> MissingCost:
        """The error for a primitive without a price."""
        reason = "" if why is None else f": {why}"
        return MissingCost(
            f"the protocol {self.name!r} has no price for {primitive!r}{reason}",
            where=site,
            hint="choose another approximation for this site, another protocol, or add the formula to its cost model",
        )

    def seconds(self, work: Work, network: Network, *, phase: str = "online") -> Amount:
        """local + rounds * latency of one + bytes of the busiest direction / bandwidth."""
        share = self.setup_link_share if phase == "setup" else self.link_share
        latency = work.rounds * (self.rtt_per_round * network.rtt_seconds)
        return work.local_seconds + latency + work.bytes * (share / network.bandwidth)

    def chained(self, price: Price) -> Price:
        """The price of an operator within a program, where its messages overlap with those of its neighbours."""
        online = price.online
        return (
            price if self.overlap == 1 else replace(price, online=replace(online, rounds=online.rounds * self.overlap))
        )

    def _with_local_work(self, price: Price, call: Call) -> Price:
        work = price.online
        seconds = (
            work.local_seconds
            + work.rounds * self.compute.per_round
            + work.bytes * self.compute.per_byte
            + multiply_adds(call) * self.compute.per_mac
        )
        return replace(price, online=replace(work, local_seconds=seconds))


def multiply_adds(call: Call) -> Amount:
    """Multiply-and-add operations of a product, in the clear; 0 for what is not a product."""
    match call.primitive:
        case "linear":
            return call.out * call.shapes[1][-1]
        case "matmul":
            return call.out * call.shapes[0][-1]
        case "conv" | "convolution":
            return call.out * elements(call.shapes[1][1:])
    return 0


def _output(primitive: str, shapes: tuple[tuple[Amount, ...], ...]) -> tuple[Amount, ...]:
    if not shapes:
        return ()
    if primitive == "linear":
        return (*shapes[0][:-1], shapes[1][0])
    if primitive == "matmul":
        return (*broadcast(shapes[0][:-2], shapes[1][:-2]), shapes[0][-2], shapes[1][-1])
    if primitive in ("conv", "convolution"):
        raise MissingCost("the output shape of a convolution has to be given")
    shape = shapes[0]
    for other in shapes[1:]:
        shape = broadcast(shape, other)
    return shape
