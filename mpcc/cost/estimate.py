"""What an inference is predicted to cost, site by site, and how that is worked out for a graph.

estimate_graph(graph, protocol, LAN).seconds      -> online latency of one inference
print(estimate.table())                           -> rich table, rows (site, kind, rounds, bytes, seconds, share)
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.table import Table
from torch.fx import GraphModule

from mpcc.errors import MissingCost

from .network import Network
from .price import Amount, Price, Work
from .protocol import Protocol
from .use import SECRET, Use, uses


@dataclass(frozen=True)
class SiteCost:
    """One row of an estimate, online: where in the user's model, what kind of operator, and what it costs."""

    site: str
    layer: str
    kind: str
    rounds: Amount
    bytes: Amount
    seconds: Amount


@dataclass(frozen=True)
class PhaseCost:
    """Rounds, bytes (both directions together) and seconds of one phase."""

    rounds: Amount = 0
    bytes: Amount = 0
    seconds: Amount = 0


@dataclass(frozen=True)
class Estimate:
    """Predicted cost of one inference. `rounds`, `bytes` and `seconds` are the online phase, and `messages` those that all
    parties send in it, where the protocol's model counts them.

    `machine` says whose local work the seconds contain (`Compute.note`). `unpriced` are the (site, kind) that the protocol has
    no price for, where the estimate was allowed to leave them out: all figures are then lower bounds.
    """

    protocol: str
    network: str
    rounds: Amount
    bytes: Amount
    seconds: Amount
    setup: PhaseCost = PhaseCost()
    offline: PhaseCost = PhaseCost()
    sites: Sequence[SiteCost] = field(default_factory=tuple)
    machine: Mapping[str, str] = field(default_factory=dict)
    unpriced: Sequence[tuple[str, str]] = ()
    messages: Amount = 0

    def grouped(self, by: str) -> list[SiteCost]:
        """The rows added up by "site", "kind" or "layer", in order of first appearance."""
        totals: dict[str, SiteCost] = {}
        for row in self.sites:
            key = getattr(row, by)
            before = totals.get(key)
            if before is None:
                totals[key] = row if by == "site" else SiteCost(*_label(row, by), row.rounds, row.bytes, row.seconds)
                continue
            totals[key] = SiteCost(
                before.site,
                before.layer,
                before.kind,
                before.rounds + row.rounds,
                before.bytes + row.bytes,
                before.seconds + row.seconds,
            )
        return list(totals.values())

    def table(self, by: str = "site") -> Table:
        """A rich table of the online phase, rows by "site", "kind" or "layer", and their total.

        What costs nothing (additions, views) has no row.
        """
        table = Table(title=f"{self.protocol} on {self.network}", title_justify="left", show_footer=True)
        table.add_column(by, "online")
        for name, total in (("rounds", _count(self.rounds)), ("bytes", _size(self.bytes))):
            table.add_column(name, total, justify="right")
        table.add_column("seconds", _seconds(self.seconds), justify="right")
        table.add_column("share", justify="right")
        for row in self.grouped(by):
            if _is_number(row.seconds) and not (row.rounds or row.bytes or row.seconds):
                continue
            share = f"{row.seconds / self.seconds:.1%}" if _is_number(self.seconds) and self.seconds else ""
            table.add_row(getattr(row, by), _count(row.rounds), _size(row.bytes), _seconds(row.seconds), share)
        return table

    def phases(self) -> dict[str, PhaseCost]:
        """online, setup, offline."""
        online = PhaseCost(self.rounds, self.bytes, self.seconds)
        return {"online": online, "setup": self.setup, "offline": self.offline}

    def _row(self, row: SiteCost, by: str) -> dict[str, Any]:
        share = {"share": row.seconds / self.seconds} if _is_number(self.seconds) and self.seconds else {}
        measures = {name: _plain(getattr(row, name)) for name in ("rounds", "bytes", "seconds")}
        return {by: getattr(row, by), **measures, **share}

    def to_json(self) -> str:
        """Stable JSON: numbers, or formulas as text where the estimate is symbolic."""
        return json.dumps(
            {
                "protocol": self.protocol,
                "network": self.network,
                "machine": dict(self.machine),
                **{name: {key: _plain(value) for key, value in vars(cost).items()} for name, cost in self.phases().items()},
                "kinds": [self._row(row, "kind") for row in self.grouped("kind")],
                "layers": [self._row(row, "layer") for row in self.grouped("layer")],
                "sites": [{key: _plain(value) for key, value in vars(row).items()} for row in self.sites],
                "unpriced": [{"site": site, "kind": kind} for site, kind in self.unpriced],
            },
            indent=2,
        )


def estimate_graph(graph: GraphModule, protocol: Protocol, network: Network | str, *, partial: bool = False) -> Estimate:
    """The cost of a graph at the nn or mpc level, operator by operator. MissingCost names the site that lacks a price.

    `partial`: what lacks one is left out and listed in `Estimate.unpriced`.
    """
    found = uses(graph)
    if not partial:
        return estimate_uses(found, protocol, network)
    lacking = {use.node for use in found if not _has_price(use, protocol)}
    priced = [replace(use, after=_behind(use, found, lacking)) for use in found if use.node not in lacking]
    unpriced = tuple((use.site, use.primitive) for use in found if use.node in lacking)
    return replace(estimate_uses(priced, protocol, network), unpriced=unpriced)


def _has_price(use: Use, protocol: Protocol) -> bool:
    try:
        _price(use, protocol)
    except MissingCost:
        return False
    return True


def _behind(use: Use, found: Sequence[Use], lacking: Collection[str]) -> tuple[str, ...]:
    """What a use waits for when those that lack a price are left out: what they wait for stands in their place."""
    before = {one.node: one.after for one in found}
    ahead, seen = list(use.after), dict[str, None]()
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen[name] = None
        ahead += before[name] if name in lacking else ()
    return tuple(name for name in seen if name not in lacking)


def estimate_uses(found: Iterable[Use], protocol: Protocol, network: Network | str) -> Estimate:
    """The cost of uses in the order of execution: one after the other, or by what waits for what (`concurrent`)."""
    link = Network.parse(network)
    if protocol.concurrent:
        priced, rounds, shares = concurrent(found, protocol)
    else:
        priced = [(use, protocol.chained(_price(use, protocol))) for use in found]
        shares = [price.online.rounds for _, price in priced]
        rounds = sum(shares, start=0)
    total = protocol.fixed
    rows: list[SiteCost] = []
    for (use, price), share in zip(priced, shares, strict=True):
        total = total + price
        online = replace(price.online, rounds=share)
        seconds = protocol.seconds(online, link)
        rows.append(SiteCost(use.site, use.layer, use.primitive, share, online.bytes, seconds))
    rounds = rounds + protocol.fixed.online.rounds
    return estimate_of(replace(total, online=replace(total.online, rounds=rounds)), rows, protocol, link)


def _price(use: Use, protocol: Protocol, **more: Any) -> Price:
    attrs = {**use.attrs, **more}
    return protocol.price(use.primitive, use.shapes, use.visibility, output=use.output, site=use.site, **attrs)


def concurrent(found: Iterable[Use], protocol: Protocol) -> tuple[list[tuple[Use, Price]], int, list[int]]:
    """(uses with prices, rounds of the longest chain, rounds by use, which add up to them).

    A value is opened when it is there, once for all uses; a use ends a message or more after its last opening. A
    message counts for the use with most bytes in it.
    """
    ready: dict[str, int] = {}
    opened: dict[str, int] = {}
    priced: list[tuple[Use, Price]] = []
    messages: list[range] = []
    for use in found:
        start = max((ready[name] for name in use.after), default=0)
        known = tuple(i for i, value in enumerate(use.values) if value in opened)
        price = _price(use, protocol, opened=known) if protocol.opens else _price(use, protocol)
        if use.primitive in protocol.opens:
            start = max([start, *(opened[use.values[i]] for i in known)])
            for i, value in enumerate(use.values):
                if use.visibility[i] == SECRET:
                    opened.setdefault(value, start + 1)
        end = start + int(price.online.rounds)
        ready[use.node] = end
        priced.append((use, price))
        messages.append(range(start, end))
    depth = max(ready.values(), default=0)
    shares = [0] * len(priced)
    for message in range(depth):
        there = [i for i, span in enumerate(messages) if message in span]
        shares[max(there, key=lambda i: priced[i][1].online.bytes / len(messages[i]))] += 1
    return priced, depth, shares


def estimate_of(total: Price, rows: Sequence[SiteCost], protocol: Protocol, network: Network) -> Estimate:
    """An estimate from a price and its rows: what turns work into seconds."""

    def phase(work: Work, name: str) -> PhaseCost:
        return PhaseCost(work.rounds, work.bytes, protocol.seconds(work, network, phase=name))

    online = phase(total.online, "online")
    return Estimate(
        protocol=protocol.name,
        network=network.name,
        rounds=online.rounds,
        bytes=online.bytes,
        seconds=online.seconds,
        setup=phase(total.setup, "setup"),
        offline=phase(total.offline, "offline"),
        sites=tuple(rows),
        machine=protocol.compute.note,
        messages=total.online.messages,
    )


def _label(row: SiteCost, by: str) -> tuple[str, str, str]:
    return ("", row.layer, "") if by == "layer" else ("", "", row.kind)


def _is_number(value: Amount) -> bool:
    return isinstance(value, int | float)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)


def _count(value: Amount) -> str:
    return f"{value:,.0f}" if _is_number(value) else str(value)


def _size(value: Amount) -> str:
    if not _is_number(value):
        return str(value)
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:,.2f} {unit}"
    return f"{value:,.0f} B"


def _seconds(value: Amount) -> str:
    if not _is_number(value):
        return str(value)
    return f"{value:,.2f} s" if value >= 1 else f"{value * 1e3:,.1f} ms"
