"""The choice of one option for every slot, as numbers only: what a plan costs and what it loses. Knows no graph.

A slot is a site, or a part of one (some heads, some tokens). Bytes and local work add up. Rounds are coupled: the parts
of a site run side by side, so the site takes the rounds of its slowest part, and the program takes those of its longest
path from input to output. A protocol that runs one operator after the other adds up all of them (`parallel=False`).
Parts of a site that choose alike run as one: what a form costs whatever its size is paid once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mpcc.cost import Work


@dataclass(frozen=True)
class Option:
    """One way to fill a slot: its own work, and the loss that it does to the outputs when it stands alone.

    `once` is paid once by all the slots of a site whose options have the same `form`; nothing of it may be negative, and
    its rounds count only where operators run one after the other. `why` says of an option that is not usable what it did.
    """

    work: Work
    loss: float
    usable: bool = True
    form: int | None = None
    once: Work = Work()
    why: str = ""


@dataclass(frozen=True)
class Slot:
    """A site, or one part of it, and its options."""

    site: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Edge:
    """`rounds` at least lie between the end of one site and the start of another; None is the input, or the output."""

    source: str | None
    target: str | None
    rounds: float


@dataclass(frozen=True)
class Weights:
    """A linear measure of a plan: rounds, bytes, local seconds, loss, each times a number that is not negative."""

    rounds: float = 0.0
    bytes: float = 0.0
    local_seconds: float = 0.0
    loss: float = 0.0

    def of(self, work: Work, loss: float) -> float:
        """The measure of a plan of that work and loss."""
        spent = self.rounds * work.rounds + self.bytes * work.bytes + self.local_seconds * work.local_seconds
        return float(spent) + self.loss * loss

    def __add__(self, other: Weights) -> Weights:
        return Weights(*(a + b for a, b in zip(self.tuple, other.tuple, strict=True)))

    def __mul__(self, factor: float) -> Weights:
        return Weights(*(factor * a for a in self.tuple))

    @property
    def tuple(self) -> tuple[float, float, float, float]:
        return self.rounds, self.bytes, self.local_seconds, self.loss


@dataclass(frozen=True)
class Limit:
    """`weights` of the plan must not be above `most`."""

    weights: Weights
    most: float


Picks = tuple[int, ...]
"""The option of every slot, by position."""


@dataclass(frozen=True)
class Problem:
    """`edges` hold the sites in topological order (of their targets). `fixed`: what every plan pays besides."""

    slots: tuple[Slot, ...]
    edges: tuple[Edge, ...] = ()
    fixed: Work = Work()
    fixed_loss: float = 0.0
    parallel: bool = True

    @cached_property
    def sites(self) -> dict[str, list[int]]:
        """Site -> positions of its slots."""
        found: dict[str, list[int]] = {}
        for position, slot in enumerate(self.slots):
            found.setdefault(slot.site, []).append(position)
        return found

    def work(self, picks: Sequence[int]) -> Work:
        """What the plan costs in all."""
        options = [slot.options[pick] for slot, pick in zip(self.slots, picks, strict=True)]
        once = {(slot.site, o.form): o.once for slot, o in zip(self.slots, options, strict=True) if o.form is not None}
        paid = [option.work for option in options] + list(once.values())
        if self.parallel:
            slowest = {site: max(options[p].work.rounds for p in where) for site, where in self.sites.items()}
            rounds = longest(self.edges, slowest)
        else:
            rounds = sum(work.rounds for work in paid)
        total = Work(rounds, sum(w.bytes for w in paid), sum(w.local_seconds for w in paid))
        return total + self.fixed

    @cached_property
    def whole(self) -> Problem:
        """The same problem with one slot a site: its parts choose alike, and do what they do together."""
        slots = []
        for site, positions in self.sites.items():
            rows = zip(*(self.slots[p].options for p in positions), strict=True)
            slots.append(Slot(site, tuple(map(self._together, rows))) if len(positions) > 1 else self.slots[positions[0]])
        return replace(self, slots=tuple(slots))

    def _together(self, options: Sequence[Option]) -> Option:
        works, once = [option.work for option in options], options[0].once
        own = max(w.rounds for w in works) if self.parallel else sum(w.rounds for w in works) + once.rounds
        size, local = (sum(getattr(w, name) for w in (*works, once)) for name in ("bytes", "local_seconds"))
        return Option(Work(own, size, local), sum(o.loss for o in options), all(o.usable for o in options))

    def in_parts(self, picks: Sequence[int]) -> Picks:
        """Picks of `whole`, one a site, as picks of this problem."""
        own = dict(zip(self.sites, picks, strict=True))
        return tuple(own[slot.site] for slot in self.slots)

    def usable(self, picks: Sequence[int]) -> bool:
        """Whether all of these picks are usable."""
        return all(slot.options[pick].usable for slot, pick in zip(self.slots, picks, strict=True))

    @property
    def forms(self) -> dict[tuple[str, int], Work]:
        """(site, form) -> what is paid once for it."""
        every = ((slot.site, option) for slot in self.slots for option in slot.options)
        return {(site, option.form): option.once for site, option in every if option.form is not None}

    def loss(self, picks: Sequence[int]) -> float:
        """What the plan loses, if the slots did not act on one another."""
        return self.fixed_loss + sum(s.options[p].loss for s, p in zip(self.slots, picks, strict=True))

    def measure(self, weights: Weights, picks: Sequence[int]) -> float:
        return weights.of(self.work(picks), self.loss(picks))

    def corrected_to(self, picks: Sequence[int], exact: Work) -> Problem:
        """The same problem, corrected so that it prices these picks as the whole program that was really made."""
        seen = self.work(picks)
        off = Work(exact.rounds - seen.rounds, exact.bytes - seen.bytes, exact.local_seconds - seen.local_seconds)
        return replace(self, fixed=self.fixed + off)


def longest(edges: Sequence[Edge], own: Mapping[str, float]) -> float:
    """Rounds of the longest path, where every site takes its `own`."""
    start: dict[str | None, float] = {}
    for edge in edges:
        before = 0.0 if edge.source is None else start[edge.source] + own[edge.source]
        start[edge.target] = max(start.get(edge.target, 0.0), before + edge.rounds)
    return start.get(None, 0.0)
