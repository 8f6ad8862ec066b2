"""A plan: the choice for every site, or for every part of a site. Plain JSON, readable and editable.

    {"blocks.0.attn.softmax": {"approximation": "softmax_mean_shift", "options": {...}},
     "blocks.1.attn.softmax": {"dim": 1, "parts": [{"index": [0, 2], "approximation": "softmax_relu", "options": {...}},
                                                   {"index": [1, 3], "approximation": "softmax_scaling"}]}}

`dim` is a dimension of the site's input: of a softmax [batch, heads, queries, keys] 1 splits heads and 2 splits tokens,
of a GELU [batch, tokens, channels] 1 splits tokens. Every position along it belongs to exactly one part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from mpcc.errors import PlanError

VERSION = 1


@dataclass(frozen=True)
class Choice:
    """The approximation chosen at a site and the options chosen for it."""

    approximation: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All choices at the site: this one."""
        return (self,)

    def map(self, change: Callable[[Choice], Choice]) -> Choice:
        """The choice changed."""
        return change(self)


@dataclass(frozen=True)
class Part:
    """Positions along the dimension of a split, ascending, and what is chosen for them."""

    index: tuple[int, ...]
    choice: Choice

    @property
    def label(self) -> str:
        """`0-2,5`: the positions for people."""
        runs: list[list[int]] = []
        for _, run in groupby(enumerate(self.index), key=lambda pair: pair[1] - pair[0]):
            runs.append([position for _, position in run])
        return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


@dataclass(frozen=True)
class Split:
    """A site whose parts along the dimension `dim` of its input are chosen for one by one.

    PlanError unless the parts are disjoint, ascending and cover the positions from 0 on.
    """

    dim: int
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        for complaint in _complaints(self):
            raise PlanError(complaint)

    @property
    def size(self) -> int:
        """Positions along the dimension."""
        return sum(len(part.index) for part in self.parts)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices of the parts."""
        return tuple(part.choice for part in self.parts)

    def map(self, change: Callable[[Choice], Choice]) -> Split:
        """The same parts with every choice changed."""
        return Split(self.dim, tuple(Part(part.index, change(part.choice)) for part in self.parts))

    @staticmethod
    def of(dim: int, choices: Sequence[Choice]) -> Choice | Split:
        """From one choice for each position: equal ones become one part; if all are equal there is no split."""
        groups: list[tuple[Choice, list[int]]] = []
        for position, choice in enumerate(choices):
            same = next((places for known, places in groups if known == choice), None)
            if same is None:
                groups.append((choice, [position]))
            else:
                same.append(position)
        if len(groups) == 1:
            return groups[0][0]
        return Split(dim, tuple(Part(tuple(places), choice) for choice, places in groups))


@dataclass(frozen=True)
class Plan:
    """Site name -> choice or split, in the order of the graph, with what it was made for (`notes`)."""

    choices: Mapping[str, Choice | Split]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Stable text: the same plan gives the same bytes."""
        sites = {name: _document(entry) for name, entry in self.choices.items()}
        return json.dumps({"version": VERSION, "notes": dict(self.notes), "sites": sites}, indent=2) + "\n"

    @property
    def key(self) -> str:
        """Text that is the same for plans of the same choices, whatever their notes."""
        return Plan(self.choices).to_json()

    @staticmethod
    def from_json(text: str, *, where: str = "plan") -> Plan:
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise PlanError(f"not JSON: {error.msg} at line {error.lineno}", where=where) from None
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise PlanError(f"not a plan of version {VERSION}", where=where, hint="Make one with `mpcc optimize`.")
        sites = document.get("sites")
        if not isinstance(sites, dict):
            raise PlanError("`sites` must be an object of site name -> choice", where=where)
        notes = document.get("notes", {})
        if not isinstance(notes, dict):
            raise PlanError("`notes` must be an object", where=where)
        try:
            return Plan({name: _read(name, entry) for name, entry in sites.items()}, notes)
        except PlanError as error:
            raise PlanError(error.what, where=where, hint=error.hint) from None


def _complaints(split: Split) -> Iterator[str]:
    if not split.parts:
        yield "a split needs at least one part"
    seen: set[int] = set()
    for part in split.parts:
        if not part.index:
            yield f"the part {part.choice.approximation} has no positions"
        if list(part.index) != sorted(set(part.index)):
            yield f"the positions {list(part.index)} of {part.choice.approximation} are not ascending"
        if part.index[:1] and part.index[0] < 0:
            yield f"position {part.index[0]} is negative"
        if twice := seen & set(part.index):
            yield f"position(s) {_listed(twice)} of dimension {split.dim} belong to two parts"
        seen |= set(part.index)
    if missing := set(range(max(seen, default=-1) + 1)) - seen:
        yield f"position(s) {_listed(missing)} of dimension {split.dim} belong to no part"


def _listed(positions: set[int]) -> str:
    return ", ".join(map(str, sorted(positions)))


def _document(entry: Choice | Split) -> dict[str, Any]:
    if isinstance(entry, Choice):
        return {"approximation": entry.approximation, "options": dict(entry.options)}
    return {"dim": entry.dim, "parts": [{"index": list(part.index), **_document(part.choice)} for part in entry.parts]}


def _read(site: str, entry: Any) -> Choice | Split:
    if not isinstance(entry, dict) or "parts" not in entry:
        return _choice(f"site {site}", entry, ())
    _known(f"site {site}", entry, ("dim", "parts"))
    dim, parts = entry.get("dim"), entry["parts"]
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise PlanError(f"site {site}: `dim` must be an integer, the dimension of the input that the parts split")
    if not isinstance(parts, list):
        raise PlanError(f"site {site}: `parts` must be a list of parts")
    try:
        return Split(dim, tuple(_part(f"site {site}, part {number}", part) for number, part in enumerate(parts)))
    except PlanError as error:
        raise error if error.what.startswith("site ") else PlanError(f"site {site}: {error.what}") from None


def _part(place: str, entry: Any) -> Part:
    index = entry.get("index") if isinstance(entry, dict) else None
    if not isinstance(index, list) or not all(map(_is_integer, index)):
        raise PlanError(f"{place}: needs an `index` (a list of integers)")
    return Part(tuple(index), _choice(place, entry, ("index",)))


def _choice(place: str, entry: Any, also: tuple[str, ...]) -> Choice:
    if not isinstance(entry, dict) or not isinstance(entry.get("approximation"), str):
        raise PlanError(f"{place}: needs an `approximation` (a name)")
    _known(place, entry, ("approximation", "options", *also))
    options = entry.get("options", {})
    if not isinstance(options, dict):
        raise PlanError(f"{place}: `options` must be an object")
    return Choice(entry["approximation"], options)


def _known(place: str, entry: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in entry:
        if key not in known:
            raise PlanError(f"{place}: unknown entry `{key}`; known are " + ", ".join(f"`{name}`" for name in known))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
