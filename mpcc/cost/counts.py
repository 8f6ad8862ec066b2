"""Op counts: a cost in numbers that should not grow unnoticed, as stable text, made to be committed and diffed.

OpCounts.of(estimate).to_json()                  -> sorted JSON, one line a row
new.compare(old)                                -> [Regression("site", "blocks.3.attn.softmax", "bytes", 845, 24270)]
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from mpcc.errors import UsageError

from .estimate import Estimate

FORMAT = "mpcc op counts 1"
PROBABILITY_SLACK = 0.1
"""The failure probability follows from sizes seen in calibration, whose last digits differ between machines."""


@dataclass(frozen=True)
class SiteCount:
    """What one site uses: its kind, its rounds and its bytes."""

    kind: str
    rounds: int
    bytes: int


@dataclass(frozen=True)
class Regression:
    """One number that increased (or appeared: `before` is 0), and where."""

    what: str  # "total", "primitive" or "site"
    name: str
    measure: str  # "rounds", "bytes", "calls", "kind" ...
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.what} {self.name}: {self.measure} {self.before:,.10g} -> {self.after:,.10g}"


@dataclass(frozen=True)
class OpCounts:
    """Calls of each primitive, rounds and bytes in total and by site, for one protocol, and the failure probability."""

    protocol: str
    rounds: int
    bytes: int
    primitives: Mapping[str, int]
    sites: Mapping[str, SiteCount] = field(default_factory=dict)
    failure_probability: float = 0.0
    aliases: tuple[str, ...] = field(default=(), compare=False)
    """Former names of the protocol: counts that were written with one of them can still be compared with."""

    @staticmethod
    def of(estimate: Estimate, failure_probability: float = 0.0, aliases: tuple[str, ...] = ()) -> OpCounts:
        """The counts of an estimate, whose rows must be numbers."""
        sites: dict[str, SiteCount] = {}
        for row in estimate.grouped("site"):
            sites[row.site] = SiteCount(row.kind, int(row.rounds), int(row.bytes))
        calls = Counter(row.kind for row in estimate.sites)
        return OpCounts(
            estimate.protocol,
            int(estimate.rounds),
            int(estimate.bytes),
            dict(calls),
            sites,
            float(f"{failure_probability:.2g}"),
            aliases,
        )

    def compare(self, other: OpCounts, tolerance: Mapping[str, float] | float = 0.0) -> list[Regression]:
        """What is higher here than in `other` (the committed counts): totals, primitives, then sites by the size of the increase.

        `tolerance` is the relative increase that is accepted, one for all measures or by measure ("rounds", "bytes", ...).
        UsageError when the two cannot be compared: other protocols, or less than half of the sites in common.
        """
        if other.protocol not in (self.protocol, *self.aliases):
            raise UsageError(
                f"these op counts are of the protocol {other.protocol!r}, not {self.protocol!r}",
                hint="write them again with `mpcc count MODEL --write FILE`",
            )
        common, most = len(self.sites.keys() & other.sites.keys()), max(len(self.sites), len(other.sites))
        if 2 * common < most:
            raise UsageError(
                f"these op counts are of another model: only {common} of {most} sites are the same",
                hint="name the file that was written for this model, or write one with `mpcc count MODEL --write FILE`",
            )
        regressions = [
            Regression("total", "online", measure, getattr(other, measure), getattr(self, measure))
            for measure in ("rounds", "bytes", "failure_probability")
        ]
        for name, calls in sorted(self.primitives.items()):
            regressions.append(Regression("primitive", name, "calls", other.primitives.get(name, 0), calls))
        at_sites: list[Regression] = []
        for name, site in self.sites.items():
            before = other.sites.get(name, SiteCount(site.kind, 0, 0))
            at_sites.append(Regression("site", name, "rounds", before.rounds, site.rounds))
            at_sites.append(Regression("site", name, "bytes", before.bytes, site.bytes))
        regressions += sorted(at_sites, key=lambda one: one.before - one.after)
        return [one for one in regressions if one.after > one.before * (1 + _allowed(tolerance, one.measure))]

    def changes(self, other: OpCounts) -> list[Regression]:
        """What differs from `other`, in either direction: the totals (always), then primitives and sites that changed."""
        found = [Regression("total", "online", name, getattr(other, name), getattr(self, name)) for name in ("rounds", "bytes")]
        for name in sorted({*self.primitives, *other.primitives}):
            calls = other.primitives.get(name, 0), self.primitives.get(name, 0)
            found.append(Regression("primitive", name, "calls", *calls))
        none = SiteCount("", 0, 0)
        for name in dict.fromkeys([*self.sites, *other.sites]):
            before, after = other.sites.get(name, none), self.sites.get(name, none)
            found.append(Regression("site", name, "rounds", before.rounds, after.rounds))
            found.append(Regression("site", name, "bytes", before.bytes, after.bytes))
        return [one for one in found if one.what == "total" or one.before != one.after]

    def to_json(self) -> str:
        """Stable JSON text: sorted names, one line a site."""
        rows = [
            f"  {json.dumps(name)}: {json.dumps(vars(self.sites[name]), sort_keys=True)}" for name in sorted(self.sites)
        ]
        lines = ",\n  ".join(rows)
        body = f"{{\n  {lines}\n  }}" if rows else "{}"
        head = {
            "format": FORMAT,
            "protocol": self.protocol,
            "rounds": self.rounds,
            "bytes": self.bytes,
            "failure_probability": self.failure_probability,
            "primitives": dict(sorted(self.primitives.items())),
        }
        return f'{json.dumps(head, indent=2)[:-2]},\n  "sites": {body}\n}}\n'

    @staticmethod
    def from_json(text: str, where: str | None = None) -> OpCounts:
        """The counts that `to_json` wrote. UsageError for anything else."""
        try:
            found: Any = json.loads(text)
            if found["format"] != FORMAT:
                raise KeyError("format")
            sites = {
                name: SiteCount(str(row["kind"]), int(row["rounds"]), int(row["bytes"]))
                for name, row in found["sites"].items()
            }
            return OpCounts(
                str(found["protocol"]),
                int(found["rounds"]),
                int(found["bytes"]),
                {name: int(calls) for name, calls in found["primitives"].items()},
                sites,
                float(found["failure_probability"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                "not a file of op counts", where=where, hint="write one with `mpcc count MODEL --write FILE`"
            ) from error


def markdown_of_changes(changes: list[Regression]) -> str:
    """The table of `table_of_regressions` in Markdown, for a comment on a pull request."""
    rows = [
        f"| {one.what} | `{one.name}` | {one.measure} | {one.before:,.10g} | {one.after:,.10g} | {_change(one)} |"
        for one in changes
    ]
    return "\n".join(["| what | name | measure | before | after | change |", "| --- | --- | --- | ---: | ---: | ---: |", *rows])


def _change(one: Regression) -> str:
    if not one.before:
        return "new" if one.after else "0%"
    return f"{one.after / one.before - 1:+.1%}" if one.after else "gone"


def table_of_regressions(regressions: list[Regression], title: str = "Cost regressions") -> Table:
    """A rich table: what changed, where, from what and to what."""
    table = Table(title=title, title_justify="left")
    for name in ("what", "name", "measure"):
        table.add_column(name)
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right")
    for one in regressions:
        table.add_row(one.what, one.name, one.measure, f"{one.before:,.10g}", f"{one.after:,.10g}", _change(one))
    return table


def _allowed(tolerance: Mapping[str, float] | float, measure: str) -> float:
    allowed = tolerance.get(measure, 0.0) if isinstance(tolerance, Mapping) else tolerance
    return max(allowed, PROBABILITY_SLACK) if measure == "failure_probability" else allowed
