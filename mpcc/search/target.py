"""What a model is compiled for (`Target`) and what is wanted of it (`Objective`): the two values that the pipeline takes.

    optimize(model, target=Target(network="wan"), objective=Objective("structural", budget="2s"))
    optimize(model, network="wan", level="structural", budget="2s")             the same, in short
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from mpcc import registry
from mpcc.approximate import LEVELS, Level
from mpcc.cost import Budget, Network
from mpcc.cost.machine import Machine
from mpcc.errors import UsageError
from mpcc.ir.nn import site_operator
from mpcc.lowering import Settings

from .effort import DEFAULT

PROTOCOL = "mpcc"
SHOWN = 6
"""Sites that a message names."""


@dataclass(frozen=True)
class Target:
    """The protocol, the network between the parties, the machine that each of them has, and how programs are lowered.

    `network`: "lan", "wan" or "20ms,100MB/s". `machine`: "reference", "this", or a file that `mpcc benchmark` wrote;
    None is this machine, measured where need be, or the reference where it cannot be. UsageError for names that do not
    exist.
    """

    protocol: str = PROTOCOL
    network: str | Network = "lan"
    machine: str | Path | Machine | None = None
    settings: Settings = Settings()

    @property
    def unchecked(self) -> Target:
        """The same for programs that are only priced, however coarse their arithmetic is."""
        return replace(self, settings=replace(self.settings, tolerance=math.inf))

    def __post_init__(self) -> None:
        registry.protocol(self.protocol)
        Network.parse(self.network)


@dataclass(frozen=True)
class Objective:
    """How deep a change may go, how quality loss is measured, and the bounds on cost and loss.

    `metric`: "module:function" that judges outputs instead of the default (see `mpcc.search.metrics`). `budget` bounds the
    predicted online phase of one inference: "2s", "30MB", "150rounds". `max_drop` bounds the accuracy drop: 0.005 is half a
    percent of the calibration inputs. `effort`: seconds of trying plans (see `mpcc.search.effort`).
    At level structural, `keep` are patterns of sites ("blocks.0.*") whose function stays, and `only` the operators ("softmax")
    whose function may change.
    """

    level: Level = "bounded"
    metric: str | None = None
    budget: str | Budget | None = None
    max_drop: float | None = None
    effort: float = DEFAULT
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise UsageError(f"unknown level {self.level!r}", hint="One of: " + ", ".join(LEVELS))
        if self.budget is not None:
            Budget.parse(self.budget)
        if not 0 <= self.effort < math.inf:
            raise UsageError(f"invalid effort {self.effort:g}", hint="Give seconds, such as 60.")


class TargetFields(TypedDict, total=False):
    """The fields of a target as keywords of their own."""

    protocol: str
    network: str | Network
    machine: str | Path | Machine | None
    settings: Settings | None


class Fields(TargetFields, total=False):
    """The fields of a target and of an objective as keywords of their own."""

    level: Level
    metric: str | None
    budget: str | Budget | None
    max_drop: float | None
    effort: float
    keep: tuple[str, ...]
    only: tuple[str, ...]


def kept_sites(objective: Objective, sites: Iterable[str]) -> frozenset[str]:
    """The sites whose function stays. UsageError for a pattern that no site has, or an operator that no site is."""
    names = list(sites)
    operators = {site_operator(site) for site in names}
    for pattern in objective.keep:
        if not fnmatch.filter(names, pattern):
            raise UsageError(f"no site is called {pattern!r}", where="keep", hint=f"The sites: {', '.join(names[:SHOWN])} ...")
    for operator in objective.only:
        if operator not in operators:
            raise UsageError(f"no site is a {operator!r}", where="only", hint=f"The operators: {', '.join(sorted(operators))}.")
    found = {name for pattern in objective.keep for name in fnmatch.filter(names, pattern)}
    return frozenset(found | {name for name in names if objective.only and site_operator(name) not in objective.only})


T = TypeVar("T", Target, Objective)


def target_of(target: Target | None, given: Mapping[str, Any]) -> Target:
    """A target with its fields from keywords; None among those stands for the default."""
    return _filled(Target(), target, given)


def asked(target: Target | None, objective: Objective | None, given: Mapping[str, Any]) -> tuple[Target, Objective]:
    """Both, where some fields may be given as keywords. UsageError for a field that is given twice."""
    own = {field.name for field in fields(Target)}
    first = {name: value for name, value in given.items() if name in own}
    rest = {name: value for name, value in given.items() if name not in own}
    return _filled(Target(), target, first), _filled(Objective(), objective, rest)


def _filled(default: T, value: T | None, given: Mapping[str, Any]) -> T:
    word = type(default).__name__.lower()
    for name in given:
        if name not in {field.name for field in fields(default)}:
            raise TypeError(f"unexpected keyword argument {name!r}")
        if value is not None:
            raise UsageError(f"{name!r} is given twice", hint=f"Set it in the {word}, or leave the {word} out.")
    return value or replace(default, **{name: entry for name, entry in given.items() if entry is not None})
