"""The candidates of each site: what each costs, how wrong it is there, and which were dropped, and why.

    candidates(graph, statistics, approximations, level_at, replay, prices)  -> {"blocks.0.mlp.gelu": Candidates(...), ...}

One is dropped when another costs no more rounds, bytes and local work and is no less accurate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Level, Options, SiteStatistics
from mpcc.approximate.expand import site_function
from mpcc.cost import Work
from mpcc.errors import MpccError, UnsupportedOperator
from mpcc.ir.nn import sites

from .default_plan import applicable, declared, preferred
from .prices import Prices, structure
from .replay import Replay

CLOSE_ERROR, TINY_ERROR = 1.1, 1e-4
"""Relative errors at a site this near to one another count as equal: fixed point itself has 1e-4."""
ROUGH = 0.3
"""A relative error from which on the error at the site says little about the loss: a structural choice is another function, to
which the model may be indifferent. Bounded candidates stay far below (`default_plan.GOOD` is 0.05)."""
CLOSE_LOCAL = 1.03
"""Local work this near counts as equal: the constants that it is predicted with are off by more (`Machine.errors`)."""
MOST_OF_A_FAMILY = 4
"""Variants of one approximation with equal rounds: the cheapest, the most exact and two between. Each costs a run of all that
follows its site and a lowered neighbourhood."""
ROUGH_MARGIN, MEASURED_MARGIN = (4, 1.3), (2, 1.1)
"""Rounds and factor of bytes by which a candidate must be cheaper, by rough prices, to replace one that is built otherwise.
Rough prices do not know what mpc passes share with the neighbours. On the sites of two test models, of all pairs with the first
margin (982) none was the other way round by exact prices; with the second, 7 of 1,629, by at most 5 % of the bytes. The first
holds where only the error at the site is known; the second once losses are measured, where little is lost by a wrong one."""
MOST_VALUES = 1 << 16
"""Of a site's input, from which the error there is taken."""
CLOSE_LOSS, TINY_LOSS = 1.02, 1e-7
"""Losses this near count as equal: measured on some dozens of inputs, they vary by more from one set of inputs to the next."""


@dataclass(frozen=True)
class Candidate:
    """A choice, its work in its neighbourhood, its relative error at the site; `loss` of the outputs once measured.

    `rank` is its place among the candidates of its approximation that are built alike: a fit to other values keeps it.
    `shares`: what part of the loss each part of the site does, where it is cut into parts.
    """

    choice: Choice
    work: Work
    error: float
    loss: float = math.nan
    rank: int = 0
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class Candidates:
    """The candidates of a site in the order of their rounds, and the dropped ones with the reason."""

    site: str
    kept: tuple[Candidate, ...]
    dropped: tuple[tuple[Choice, str], ...] = ()


def candidates(
    graph_module: fx.GraphModule,
    statistics: Mapping[str, SiteStatistics],
    approximations: Mapping[str, Approximation],
    level: Callable[[str], Level],
    replay: Replay,
    prices: Prices,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Candidates]:
    """Candidates of every site, roughly priced and pruned by their error at the site; `measured` does the rest.

    `level`: how deep a change may go at a site.
    UnsupportedOperator names the sites without any.
    """
    found: dict[str, Candidates] = {}
    nodes = sites(graph_module)
    for done, (name, node) in enumerate(nodes.items()):
        progress(done, len(nodes))
        exact = replay.at(name, most=MOST_VALUES)
        candidates, dropped = [], []
        for approximation, options in applicable(statistics[name], approximations.values(), level(name)).values():
            errors: dict[str, float] = {}
            for choice, rank in _ranked(approximation.name, options):
                try:
                    key = approximation.function_key(choice.options)
                    if key not in errors:
                        errors[key] = relative(replay.at(name, site_function(node, choice, approximations), MOST_VALUES), exact)
                    candidates.append(Candidate(choice, prices.rough(name, choice), errors[key], rank=rank))
                except MpccError as problem:
                    dropped.append((choice, f"cannot be used: {problem.what}"))
        found[name] = thinned(prune(Candidates(name, tuple(candidates), tuple(dropped)), _surely_less_exact))
    progress(len(nodes), len(nodes))
    empty = [name for name, entry in found.items() if not entry.kept]
    if empty:
        reasons = "; ".join(dict.fromkeys(reason for name in empty for _, reason in found[name].dropped))
        raise UnsupportedOperator(
            f"no approximation of level {level(empty[0])} applies at {', '.join(empty)}" + (f" ({reasons})" if reasons else ""),
            hint="`mpcc passes` lists what there is; a deeper level or other calibration inputs may open more.",
        )
    return found


def _ranked(name: str, options: Sequence[Options]) -> Iterator[tuple[Choice, int]]:
    seen: Counter[Any] = Counter()
    for candidate in options:
        form = structure(candidate)
        yield Choice(name, dict(candidate)), seen[form]
        seen[form] += 1


def refitted(candidate: Candidate, seen: SiteStatistics, approximations: Mapping[str, Approximation]) -> Choice:
    """The same candidate fitted to what the site sees now: of the same structure and rank.

    Where none is built alike, as when the range grew, the most exact of its approximation; else what the site would get.
    """
    approximation = approximations[candidate.choice.approximation]
    candidates = approximation.candidates(seen)
    form = structure(candidate.choice.options)
    alike = [options for options in candidates if structure(options) == form]
    if alike:
        return Choice(approximation.name, dict(alike[min(candidate.rank, len(alike) - 1)]))
    if candidates:
        best = min(range(len(candidates)), key=lambda index: declared(approximation, candidates[index]))
        return Choice(approximation.name, dict(candidates[best]))
    return preferred(seen, approximations, "bounded") or candidate.choice


def _priced(found: Candidates, prices: Prices) -> Candidates:
    """The same with the work of the lowered neighbourhood."""
    candidates, dropped = [], list(found.dropped)
    for candidate in found.kept:
        try:
            candidates.append(replace(candidate, work=prices(found.site, candidate.choice)))
        except MpccError as problem:
            dropped.append((candidate.choice, f"cannot be lowered: {problem.what}"))
    return Candidates(found.site, tuple(candidates), tuple(dropped))


def thinned(found: Candidates, most: int = MOST_OF_A_FAMILY) -> Candidates:
    """At most so many candidates of one approximation and as many rounds: the ends of the row and what lies between."""
    families: dict[Any, list[Candidate]] = {}
    for candidate in found.kept:
        families.setdefault((_built(candidate.choice), candidate.work.rounds), []).append(candidate)
    kept, dropped = [], list(found.dropped)
    for family in families.values():
        row = sorted(family, key=lambda m: m.error)
        places = {round(i * (len(row) - 1) / (most - 1)) for i in range(most)} if len(row) > most else range(len(row))
        kept += [row[place] for place in sorted(places)]
        why = f"redundant among the {len(row)} variants of this approximation"
        dropped += [(m.choice, why) for i, m in enumerate(row) if i not in places]
    return Candidates(found.site, tuple(kept), tuple(dropped))


def relative(seen: Tensor, exact: Tensor) -> float:
    """Root mean square of the error over that of the exact values; infinite where there are NaN or infinite values."""
    wrong = float((seen.double() - exact.double()).square().mean())
    if not math.isfinite(wrong):
        return math.inf
    return math.sqrt(wrong / max(float(exact.double().square().mean()), 1e-30))


def measured(found: Candidates, losses: Sequence[float], prices: Prices) -> Candidates:
    """The same with measured losses, pruned by them; what is left with the exact price of its neighbourhood."""
    candidates = tuple(replace(m, loss=loss) for m, loss in zip(found.kept, losses, strict=True))
    priced = _priced(prune(replace(found, kept=candidates), _surely_loses_more), prices)
    if not priced.kept:
        raise UnsupportedOperator(f"no approximation can be lowered at {found.site}", hint=priced.dropped[-1][1])
    return prune(priced, _loses_more)


def prune(found: Candidates, worse: Callable[[Candidate, Candidate], bool]) -> Candidates:
    """Without the candidates that another one beats in work and in what `worse` compares."""
    ranked = sorted(found.kept, key=lambda m: (m.work.rounds, m.work.bytes, m.work.local_seconds, m.error))
    kept: list[Candidate] = []
    dropped = list(found.dropped)
    for candidate in ranked:
        if not math.isfinite(candidate.error) or candidate.loss == math.inf:
            dropped.append((candidate.choice, "gives infinite values on the calibration inputs"))
            continue
        better = next((other for other in ranked if other is not candidate and _beats(other, candidate, worse, ranked)), None)
        if better is None:
            kept.append(candidate)
        else:
            dropped.append((candidate.choice, f"{_name(better.choice)} costs no more and loses no more"))
    return Candidates(found.site, tuple(kept), tuple(dropped))


def _beats(
    other: Candidate, candidate: Candidate, worse: Callable[[Candidate, Candidate], bool], ranked: Sequence[Candidate]
) -> bool:
    """Of two that beat one another, the first in order stays."""
    if not (_no_more_expensive(other.work, candidate.work) and worse(candidate, other)):
        return False
    mutual = _no_more_expensive(candidate.work, other.work) and worse(other, candidate)
    return not mutual or ranked.index(other) < ranked.index(candidate)


def _no_more_expensive(work: Work, than: Work) -> bool:
    near = work.local_seconds <= than.local_seconds * CLOSE_LOCAL + 1e-6
    return bool(work.rounds <= than.rounds and work.bytes <= than.bytes and near)


def _less_exact(candidate: Candidate, other: Candidate) -> bool:
    if not math.isfinite(other.error):
        return False
    if candidate.error >= ROUGH:
        same = other.choice.approximation == candidate.choice.approximation
        return other.error < ROUGH or (same and other.error <= candidate.error)
    return other.error <= candidate.error * CLOSE_ERROR + TINY_ERROR


def _surely_less_exact(candidate: Candidate, other: Candidate) -> bool:
    """For rough prices: between approximations that are built differently only a clear difference counts."""
    return _clearly_cheaper(other, candidate, *ROUGH_MARGIN) and _less_exact(candidate, other)


def _clearly_cheaper(candidate: Candidate, than: Candidate, rounds: float, factor: float) -> bool:
    if _built(candidate.choice) == _built(than.choice):
        return True
    return bool(candidate.work.rounds <= than.work.rounds - rounds and candidate.work.bytes * factor <= than.work.bytes)


def _built(choice: Choice) -> tuple[Any, ...]:
    """The form of a candidate: its approximation and the words among its options (whether factors are joined)."""
    return choice.approximation, *((k, v) for k, v in choice.options.items() if isinstance(v, bool | str))


def _loses_more(candidate: Candidate, other: Candidate) -> bool:
    return other.loss <= candidate.loss * CLOSE_LOSS + TINY_LOSS


def _surely_loses_more(candidate: Candidate, other: Candidate) -> bool:
    return _clearly_cheaper(other, candidate, *MEASURED_MARGIN) and _loses_more(candidate, other)


def _name(choice: Choice) -> str:
    short = [f"{key}={value}" for key, value in choice.options.items() if isinstance(value, int | str)]
    return " ".join([choice.approximation, *short])
