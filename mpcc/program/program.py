"""An online program: the two graphs, the schedule of messages, and its exact cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.errors import BundleError
from mpcc.ir import dealer, online
from mpcc.ir.info import info_of, input_of, weight_of
from mpcc.ir.nn import shape_of, size_of
from mpcc.ir.uncompiled import Uncompiled

from .document import AGAIN, VERSION, read
from .layout import Place
from .repeats import packed
from .rounds import Message, ahead, messages, one_way_words
from .serialize import rows_of

WORD = 8
"""Bytes of a ring element on the wire."""
FLOOD_REACH = dealer.NOISE_REACH + 0.5
"""In standard deviations: what the noise reaches, and the rounding to a quarter of one by both parties."""


@dataclass(frozen=True)
class Cost:
    """Exact communication between the two parties, and from the dealer.

    A round is one exchange of messages (both directions at once) or one message one way; bytes count both directions.
    `dealer_bytes` go from the dealer to the parties, both links counted (masks are expanded from seeds, only derived values
    travel: half of them to either party, and to both what is common); `busier_dealer_bytes` is the link that carries more.
    `ahead_bytes` go from the client to the server before the
    input; `busier_bytes` are those of the direction that carries more, summed over the rounds: what a link takes its time for.
    """

    rounds: int
    bytes: int
    setup_rounds: int
    setup_bytes: int
    dealer_bytes: int
    setup_dealer_bytes: int
    ahead_bytes: int
    busier_bytes: int
    busier_dealer_bytes: int


@dataclass(frozen=True)
class Program:
    """What the parties and the dealer run. `constants` are the server's float tensors, encoded when loaded.

    Of a party that lacks some of them (all others lack the secret ones), these are meta tensors."""

    online: Uncompiled
    dealer: Uncompiled
    correlations: tuple[tuple[str, str], ...]
    """(online placeholder, dealer node), in the order in which the dealer provides them."""
    outputs: tuple[tuple[str, float], ...]
    """(online node of the revealed share, scale)."""
    constants: Mapping[str, Tensor]
    failures: tuple[tuple[str, int, float], ...]
    hidden: int | None = None
    """In how many answers to one client the noise on outputs hides the steps of truncations and gates (`mpcc.lowering.flood`): 0
    without noise, `security.ENDLESS` where there is no step. None: not known, as in files of an earlier mpcc."""

    @cached_property
    def nodes(self) -> Mapping[str, fx.Node]:
        return {n.name: n for n in self.online.graph.nodes}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The server's tensors that the program encodes, by name."""
        weights = ((weight_of(node), node) for node in self.online.graph.nodes)
        return {weight.constant: shape_of(node) for weight, node in weights if weight is not None}

    @cached_property
    def public_names(self) -> frozenset[str]:
        """Of `shapes`: the tensors by which both parties multiply, as everybody knows them."""
        weights = map(weight_of, self.online.graph.nodes)
        return frozenset(weight.constant for weight in weights if weight is not None and weight.public)

    @property
    def public_constants(self) -> dict[str, Tensor]:
        """What the other party needs of `constants`."""
        return {name: value for name, value in self.constants.items() if name in self.public_names}

    @cached_property
    def messages(self) -> list[Message]:
        return messages(self.online.graph)

    @cached_property
    def ahead(self) -> tuple[Place, ...]:
        """The client's parts of openings that it sends before the input, in one message."""
        return ahead(self.online.graph)

    @property
    def ahead_words(self) -> int:
        return -(-sum(place.bytes for place in self.ahead) // WORD)

    @cached_property
    def dealt_to(self) -> Mapping[str, tuple[int, ...]]:
        """Share -> the parties that the dealer sends it to. Of a derived value, one party's share expands from its seed and the
        other's travels; which one is settled here so that both links carry the same, as the slower of them sets the pace."""
        sources, load = {n.name: n for n in self.dealer.graph.nodes}, {True: [0, 0], False: [0, 0]}
        found: dict[str, tuple[int, ...]] = {}
        for share, name in self.correlations:
            node, source = self.nodes[share], sources[name]
            phase = load[info_of(node).phase == "setup"]
            parties: tuple[int, ...] = ()
            if source.target in dealer.COMMON:
                parties = (0, 1)
            elif not from_seed(source):
                parties = (0,) if phase[0] < phase[1] else (1,)
            found[share] = parties
            for party in parties:
                phase[party] += size_of(node) * WORD
        return found

    @property
    def failure_probability(self) -> float:
        """Bound on the probability that one inference is wrong because a local truncation wrapped."""
        return sum(p for _, _, p in self.failures)

    @property
    def flood(self) -> tuple[float, ...]:
        """The standard deviation of the noise on each output; none is ever off by more than FLOOD_REACH times that."""
        dealt, sources = dict(self.correlations), {n.name: n for n in self.dealer.graph.nodes}
        found = []
        for name, scale in self.outputs:
            bits = sources[dealt[self.nodes[name].all_input_nodes[0].all_input_nodes[1].name]].args[1]
            assert isinstance(bits, int)
            found.append(2.0**bits / abs(scale) if bits else 0.0)
        return tuple(found)

    @cached_property
    def cost(self) -> Cost:
        graph = self.online.graph
        weights, revealed = one_way_words(graph, online.open_weight), one_way_words(graph, online.reveal)
        derived = {False: [0, 0], True: [0, 0]}
        for share, parties in self.dealt_to.items():
            node = self.nodes[share]
            for party in parties:
                derived[info_of(node).phase == "setup"][party] += size_of(node) * WORD
        return Cost(
            rounds=len(self.messages) + 1,
            bytes=WORD * (sum(m.words(0) + m.words(1) for m in self.messages) + revealed),
            setup_rounds=1 if weights else 0,
            setup_bytes=WORD * weights,
            dealer_bytes=sum(derived[False]),
            setup_dealer_bytes=sum(derived[True]),
            ahead_bytes=WORD * self.ahead_words,
            busier_bytes=WORD * (sum(max(m.words(0), m.words(1)) for m in self.messages) + revealed),
            busier_dealer_bytes=max(derived[False]),
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the program without the weights: both parties and the dealer compare it before they start."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The program as JSON text, without the weights. The same program gives the same text."""
        document: dict[str, Any] = {
            "version": VERSION,
            "dealer": packed(rows_of(self.dealer.graph, {})),
            "online": packed(rows_of(self.online.graph, dict(self.correlations))),
            "outputs": self.outputs,
            "failures": self.failures,
        }
        if self.hidden is not None:
            document["hidden"] = self.hidden
        return json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes, constants: Mapping[str, Tensor], *, where: str = "program.json") -> Program:
        """The program of a JSON text, with the server's constants (the client's are the public ones; the dealer has none).

        Every field is checked, and nothing of the text is ever executed. BundleError says what is wrong and where.
        """
        try:
            found = read(text)
        except BundleError as error:
            place = where if error.where is None else f"{where}, {error.where}"
            raise BundleError(error.what, where=place, hint=error.hint or AGAIN) from None
        return Program(
            Uncompiled(found.online),
            Uncompiled(found.dealer),
            found.correlations,
            found.outputs,
            {name: torch.empty(shape, device="meta") for name, shape in found.shapes.items()} | dict(constants),
            found.failures,
            found.hidden,
        )

    def inputs(self) -> list[fx.Node]:
        return [n for n in self.online.graph.nodes if input_of(n) is not None]


def from_seed(source: fx.Node) -> bool:
    """Whether both shares of a dealer value expand from the parties' seeds (it is random itself)."""
    return source.target in dealer.RANDOM - dealer.DEALERS_OWN


def encode_tensor(value: Tensor, scale: float) -> Tensor:
    """Integers round(value * scale) modulo 2^64."""
    return (value.detach().double() * scale).round().to(torch.int64)
