"""An online program: the two graphs, the schedule of messages, and its exact cost."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from ..ir import online
from .builder import Builder
from .rounds import Message, annotate, fixed_for_model, messages, one_way_words
from .scales import Ledger
from .values import Secret

WORD = 8
"""Bytes of a ring element on the wire."""


class Uncompiled(fx.GraphModule):
    """A graph of which no Python text is written, as that takes long: programs are run node by node."""

    def recompile(self) -> Any:
        """Nothing to do."""


@dataclass(frozen=True)
class Cost:
    """Exact communication between the two parties, and from the dealer.

    A round is one exchange of messages (both directions at once) or one message one way; bytes count both directions.
    `dealer_bytes` go from the dealer to party 1 (masks are expanded from seeds, only derived values travel).
    """

    rounds: int
    bytes: int
    setup_rounds: int
    setup_bytes: int
    dealer_bytes: int
    setup_dealer_bytes: int


@dataclass(frozen=True)
class Program:
    """What the parties and the dealer run. `constants` are the owner's float tensors, encoded when loaded."""

    online: fx.GraphModule
    dealer: fx.GraphModule
    correlations: tuple[tuple[str, str], ...]
    """(online placeholder, dealer node), in the order in which the dealer provides them."""
    outputs: tuple[tuple[str, float], ...]
    """(online node of the revealed share, scale)."""
    constants: Mapping[str, Tensor]
    failures: tuple[tuple[str, int, float], ...]

    @staticmethod
    def build(b: Builder, outputs: Sequence[tuple[str, Secret]], ledger: Ledger) -> Program:
        revealed = [(b.on(online.reveal, s.node), s.scale) for _, s in outputs]
        b.online.output(tuple(n for n, _ in revealed))
        b.online.eliminate_dead_code()
        used = {n for n in b.online.nodes}
        for node in [n for n in b.online.nodes if n.op == "placeholder" and not n.users and n.meta["kind"] != "input"]:
            b.online.erase_node(node)
            used.discard(node)
        kept = [(source, share) for source, share in b.correlations.items() if share in used]
        b.dealer.output(tuple(source for source, _ in kept))
        b.dealer.eliminate_dead_code(lambda n: n.op in ("output",))
        annotate(b.online, {share for source, share in kept if fixed_for_model(source)})
        names = {str(n.meta["constant"]) for n in b.online.nodes if n.meta.get("kind") == "weight"}
        return Program(
            Uncompiled({}, b.online),
            Uncompiled({}, b.dealer),
            tuple((share.name, source.name) for source, share in kept),
            tuple((node.name, scale) for node, scale in revealed),
            {name: value for name, value in b.constants.items() if name in names},
            tuple(ledger.entries),
        )

    @cached_property
    def nodes(self) -> Mapping[str, fx.Node]:
        return {n.name: n for n in self.online.graph.nodes}

    @cached_property
    def messages(self) -> list[Message]:
        return messages(self.online.graph)

    @property
    def failure_probability(self) -> float:
        """Bound on the probability that one inference is wrong because a local truncation wrapped."""
        return sum(p for _, _, p in self.failures)

    @cached_property
    def cost(self) -> Cost:
        graph = self.online.graph
        weights = one_way_words(graph, online.open_weight)
        derived = {False: 0, True: 0}
        sources = {n.name: n for n in self.dealer.graph.nodes}
        for share, source in self.correlations:
            if not from_seed(sources[source]):
                node = self.nodes[share]
                derived[node.meta["phase"] == "setup"] += int(node.meta["val"].numel()) * WORD
        return Cost(
            rounds=len(self.messages) + 1,
            bytes=2 * WORD * sum(m.words for m in self.messages) + WORD * one_way_words(graph, online.reveal),
            setup_rounds=1 if weights else 0,
            setup_bytes=WORD * weights,
            dealer_bytes=derived[False],
            setup_dealer_bytes=derived[True],
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the program without the weights: both parties and the dealer compare it before they start."""
        from .serialize import dumps

        return hashlib.sha256(dumps(self).encode()).hexdigest()

    def inputs(self) -> list[fx.Node]:
        return [n for n in self.online.graph.nodes if n.meta.get("kind") == "input"]


def from_seed(source: fx.Node) -> bool:
    """Whether both shares of a dealer value expand from the parties' seeds (it is random itself)."""
    from ..ir import dealer

    return source.target in dealer.RANDOM and source.target is not dealer.random_bits


def encode_tensor(value: Tensor, scale: float) -> Tensor:
    """Integers round(value * scale) modulo 2^64."""
    return (value.detach().double() * scale).round().to(torch.int64)
