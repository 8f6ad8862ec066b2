"""Many plans that start from one: run side by side, on whatever workers there are (`mpcc.workers`).

    results(walker, [picks, ...], here)  ->  [Walk, ...], in that order

Each sees the fits that are known before the sweep, and none that another one makes meanwhile; what they make is kept afterwards,
in their order. So a sweep is the same in one process and in many.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, fx

from mpcc.approximate import Choice, SiteStatistics
from mpcc.compensate import Mender
from mpcc.ir.portable import Portable, tensor_of
from mpcc.workers import Work, each

from .candidates import Candidate
from .parts import Parts
from .problem import Picks
from .replay import Outputs
from .walk import Stop, Walk, Walker

Fits = dict[tuple[str, int], list[Choice]]
"""(site, which candidate) -> what it was fitted to be, the first as it was found."""


@dataclass(frozen=True)
class Seen:
    """What a run gives: outputs to be measured, or the loss and the drop where it was lost; and the fits that it made."""

    outputs: Outputs | None
    loss: float
    drop: float
    made: Fits


@dataclass(frozen=True)
class Stopped:
    """A `Stop` as plain data: values by the name of the node."""

    values: Mapping[str, np.ndarray[Any, Any]]
    changed: bool
    seen: SiteStatistics | None


@dataclass(frozen=True)
class Sweep:
    """All that a sweep shares. Called with picks, it runs them."""

    walker: Walker
    base: Walk
    fits: Fits

    def __call__(self, picks: Picks) -> Seen:
        own, outputs = copy.copy(self.walker), list[Outputs]()

        def keep(found: Outputs) -> tuple[float, float]:
            outputs.append(found)
            return 0.0, 0.0

        own.measure = keep
        own.fits = _by_identity(own, self.fits)
        walk = own.result(picks, self.base)
        made = {key: row[len(self.fits.get(key, row[:1])) :] for key, row in _by_place(own).items()}
        return Seen(outputs[0] if outputs else None, walk.loss, walk.drop, {key: row for key, row in made.items() if row})


def results(walker: Walker, many: Sequence[Picks], base: Walk) -> list[Walk]:
    """`walker.result(picks, base)` of many picks, in order."""
    sweep = Sweep(walker, base, _by_place(walker))
    found = each(many, sweep, lambda: _elsewhere(sweep))
    for seen in found:
        for key, row in seen.made.items():
            known = walker.fits.setdefault(_identity(walker, key), [walker.candidates[key[0]][key[1]].choice])
            known += [fit for fit in row if fit not in known]
    return [
        Walk(picks, (), *((seen.loss, seen.drop) if seen.outputs is None else walker.measure(seen.outputs)))
        for picks, seen in zip(many, found, strict=True)
    ]


# ---- fits, which a walker keeps by the identity of its candidates ----------------------------------------------------


def _identity(walker: Walker, key: tuple[str, int]) -> tuple[str, int]:
    return key[0], id(walker.candidates[key[0]][key[1]])


def _by_identity(walker: Walker, fits: Fits) -> Fits:
    return {_identity(walker, key): list(row) for key, row in fits.items()}


def _by_place(walker: Walker) -> Fits:
    places = {(site, id(one)): (site, place) for site, row in walker.candidates.items() for place, one in enumerate(row)}
    return {places[key]: list(row) for key, row in walker.fits.items()}


# ---- in another process ------------------------------------------------------------------------------------------------


def _elsewhere(sweep: Sweep) -> Work[Picks, Seen]:
    walker, base = sweep.walker, sweep.base
    stops = tuple(Stopped(_plain(stop.values), stop.changed, stop.seen) for stop in base.stops)
    columns = tuple(column.contiguous().numpy() for column in walker.columns)
    mender = None if walker.mender is None else (walker.mender.first, _plain(walker.mender.as_was))
    shared = Portable.of(walker.module), columns, dict(walker.candidates), dict(walker.parts), walker.synthetic, mender
    return Work(_sweep, (*shared, Walk(base.picks, (), base.loss, base.drop), stops, sweep.fits))


def _plain(values: Mapping[fx.Node, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {node.name: value.detach().contiguous().numpy() for node, value in values.items()}


def _sweep(
    portable: Portable, columns: Sequence[np.ndarray[Any, Any]], candidates: Mapping[str, Sequence[Candidate]],
    parts: Mapping[str, Parts], synthetic: bool, mender: tuple[int, Mapping[str, np.ndarray[Any, Any]]] | None, plain: Walk,
    stops: Sequence[Stopped], fits: Fits,
) -> Sweep:  # fmt: skip
    module = portable.module()
    inputs, mends = tuple(map(tensor_of, columns)), None
    if mender is not None:
        mends = Mender(module, inputs, mender[0], {name: tensor_of(value) for name, value in mender[1].items()})
    walker = Walker(module, inputs, candidates, parts, lambda outputs: (0.0, 0.0), synthetic, mends)
    nodes: dict[str, fx.Node] = {node.name: node for node in module.graph.nodes}
    made = [Stop({nodes[n]: tensor_of(v) for n, v in one.values.items()}, one.changed, one.seen) for one in stops]
    return Sweep(walker, Walk(plain.picks, tuple(made), plain.loss, plain.drop), fits)
