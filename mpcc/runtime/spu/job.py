"""What a party of SPU is told and what it answers, as JSON files in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mpcc.errors import PartyError

JOB, CIRCUIT, ANSWER = "job.json", "circuit.json", "answer.json"
MET = "met"
"""There once a party has found all others."""
WEIGHTS, INPUTS, OUTPUTS = "weights.npz", "inputs.npz", "outputs.npz"
SERVER, CLIENT, HELPER = range(3)
"""Ranks: the owner of the weights, the owner of the input, and ABY3's third party."""
ROLES = ("server", "client", "helper")
PARTIES: Mapping[str, int] = {"semi2k": 2, "aby3": 3, "cheetah": 2}
"""The protocols of SPU that mpcc prices, and how many take part."""
RECEIVE_MILLISECONDS = 600_000
"""Cheetah's matrix products keep a party busy for minutes; SPU's default gives up after half a minute."""


@dataclass(frozen=True)
class Tls:
    """Files (PEM) by which a party proves itself to the others."""

    certificate: str
    key: str
    authority: str


@dataclass(frozen=True)
class Job:
    """Who this party is, where the others are ("host:port" by rank), and how many inferences there will be."""

    rank: int
    protocol: str
    addresses: tuple[str, ...]
    calls: int
    tls: Tls | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @staticmethod
    def from_json(text: str) -> Job:
        found = json.loads(text)
        tls = None if found["tls"] is None else Tls(**found["tls"])
        return Job(found["rank"], found["protocol"], tuple(found["addresses"]), found["calls"], tls)


@dataclass(frozen=True)
class Row:
    """One operation of SPU: how often it ran, bytes and messages that were sent."""

    calls: int
    bytes: int
    sends: int


@dataclass(frozen=True)
class Count:
    """One inference at one party: seconds, bytes and messages that it sent, and the same by operation of SPU."""

    seconds: float
    bytes: int
    sends: int
    rows: Mapping[str, Row] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A count for each inference, or what went wrong."""

    counts: tuple[Count, ...]
    error: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @staticmethod
    def from_json(text: str) -> Answer:
        """PartyError for anything that a party does not write."""
        try:
            found: Any = json.loads(text)
            counts = tuple(
                Count(one["seconds"], one["bytes"], one["sends"], {name: Row(**row) for name, row in one["rows"].items()})
                for one in found["counts"]
            )
            return Answer(counts, found["error"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PartyError(f"a party's answer is damaged: {error}", where="the engine SPU") from None
