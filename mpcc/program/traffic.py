"""What a program does, row by row: which openings travel in which message, and how much local work there is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from mpcc.ir import online
from mpcc.ir.info import info_of
from mpcc.ir.nn import size_of

from .local import Local, exchange_work, local_work
from .program import WORD, Program
from .rounds import MUTUAL


@dataclass(frozen=True)
class Row:
    """Openings of one primitive at one site: bytes both directions, and the messages that they travel in."""

    site: str
    layer: str
    primitive: str
    bytes: int
    messages: frozenset[int]


def rows(program: Program) -> list[Row]:
    """One row per (site or layer, primitive), in the order of the graph."""
    sizes: dict[tuple[str, str, str], int] = defaultdict(int)
    depths: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    last = len(program.messages)
    travels: dict[str, int] = defaultdict(int)
    for message in program.messages:
        for party, side in enumerate(message.sides):
            for place in side:
                travels[place.name] += place.bytes
            travels[message.opens[0]] += WORD * message.words(party) - message.bytes(party)  # zeros that fill the last word
    for node in program.online.graph.nodes:
        if node.target in MUTUAL or node.target is online.reveal:
            mutual = node.target in MUTUAL
            origin = info_of(node).origin
            key = (origin.site or origin.layer or "output", origin.layer, origin.primitive or "reveal")
            sizes[key] += travels[node.name] if mutual else WORD * size_of(node)
            depths[key].add(info_of(node).level - 1 if mutual else last)
    return [Row(*key, sizes[key], frozenset(depths[key])) for key in sizes]


def attributed_rounds(found: list[Row]) -> list[int]:
    """Rounds per row such that they add up to the program's: a message counts for the row with most bytes in it."""
    opener: dict[int, int] = {}
    for index, row in enumerate(found):
        for message in row.messages:
            best = opener.get(message)
            if best is None or row.bytes / len(row.messages) > found[best].bytes / len(found[best].messages):
                opener[message] = index
    counts = [0] * len(found)
    for index in opener.values():
        counts[index] += 1
    return counts


def work(program: Program, phase: str, party: int) -> Local:
    """The local work of a party in a phase. The server (party 0) has the weights' products online."""
    total = Local()
    for node in program.online.graph.nodes:
        if node.op != "call_function" or info_of(node).phase != phase or node.target in online.COMMUNICATION:
            continue
        total += local_work(node, party == 0)
    if phase == "online":
        for message in program.messages:
            total += exchange_work(message, party)
    return total
