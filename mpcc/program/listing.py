"""The static schedule, for reading: what travels in each round, and what the dealer makes beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mpcc.ir import dealer, online
from mpcc.ir.info import info_of
from mpcc.ir.nn import size_of

from .layout import Place
from .program import WORD, Program, from_seed
from .rounds import Message

SENDERS = {"both": "both", "to_server": "client", "ahead": "server"}


@dataclass(frozen=True)
class Sent:
    """Openings of one primitive at one site in a round: bits opened of each value, values, who sends its part in the round
    ("both", "server" or "client"), and the bytes of a part."""

    site: str
    primitive: str
    sender: str
    bits: int
    values: int
    bytes: int


@dataclass(frozen=True)
class Round:
    """One message each way (the last one: the output, to the client alone), and the bytes of either."""

    number: int
    server_bytes: int
    client_bytes: int
    sent: tuple[Sent, ...]


@dataclass(frozen=True)
class Dealt:
    """Correlated randomness of one kind: how many tensors, and words that come from seeds or travel (on both links)."""

    kind: str
    phase: str
    tensors: int
    seeded_words: int
    travelling_words: int


def rounds(program: Program) -> list[Round]:
    """The rounds of the online phase, in order."""
    found = [
        Round(number, WORD * message.words(0), WORD * message.words(1), _joined([_sent(program, p) for p in _places(message)]))
        for number, message in enumerate(program.messages, 1)
    ]
    outputs = [program.nodes[name] for name, _ in program.outputs]
    last = [Sent("output", "reveal", "server", 64, size_of(node), WORD * size_of(node)) for node in outputs]
    return [*found, Round(len(found) + 1, sum(row.bytes for row in last), 0, _joined(last))]


def _places(message: Message) -> list[Place]:
    """Each opening's place in a message, whoever sends it."""
    every = {place.name: place for side in message.sides for place in side}
    return [every[name] for name in message.opens]


def dealt(program: Program) -> list[Dealt]:
    """What the dealer makes, by kind, the largest first."""
    sources = {n.name: n for n in program.dealer.graph.nodes}
    tensors: Counter[tuple[str, str]] = Counter()
    seeded: Counter[tuple[str, str]] = Counter()
    travelling: Counter[tuple[str, str]] = Counter()
    for share, name in program.correlations:
        source, phase = sources[name], str(info_of(program.nodes[share]).phase)
        key = KINDS.get(source.target, str(getattr(source.target, "__name__", source.target))), phase
        tensors[key] += 1
        seeded[key] += size_of(source) * from_seed(source)
        travelling[key] += size_of(source) * len(program.dealt_to[share])
    rows = [Dealt(*key, count, seeded[key], travelling[key]) for key, count in tensors.items()]
    return sorted(rows, key=lambda row: -(row.seeded_words + row.travelling_words))


KINDS = {
    dealer.mask: "masks",
    dealer.weight_mask: "masks of weights",
    dealer.random_bits: "random bits",
    dealer.noise: "noise on outputs",
    dealer.plane_masks: "masks of comparisons",
    dealer.high: "masks, their high bits",
    dealer.top: "masks, their top bit",
    dealer.multiply: "products and powers of masks",
    dealer.product: "matrix products of masks",
    dealer.tables: "lookup tables of comparisons",
    dealer.sign: "sign bits of comparisons",
    dealer.mask_products: "products of comparisons' masks",
    dealer.packed: "random bits, packed",
    dealer.roots: "roots of trees",
    dealer.tree: "keys of trees",
}


def _sent(program: Program, place: Place) -> Sent:
    node = program.nodes[place.name]
    origin = info_of(node).origin
    bits = node.target is online.open_bits
    width = 1 if bits else sum(plane.bits for plane in place.planes)
    values = size_of(node) * (64 if bits else 1)
    sender = SENDERS[info_of(node).way]
    return Sent(origin.site or origin.layer, origin.primitive, sender, width, values, place.bytes)


def _joined(sent: Sequence[Sent]) -> tuple[Sent, ...]:
    """Rows of the same site, primitive, sender and width together."""
    totals: dict[tuple[str, str, str, int], tuple[int, int]] = {}
    for row in sent:
        values, size = totals.get((row.site, row.primitive, row.sender, row.bits), (0, 0))
        totals[row.site, row.primitive, row.sender, row.bits] = values + row.values, size + row.bytes
    return tuple(Sent(*key, *amounts) for key, amounts in totals.items())
