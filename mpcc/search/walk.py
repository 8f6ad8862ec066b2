"""Picks run in float, every candidate fitted to what its site sees under the choices before it, as whole plans are.

    walker = Walker(graph, columns, approximations, candidates, parts, metric)
    here = walker.walk(picks)                     the whole graph, with what every site saw
    walker.result(other, here).loss               only what follows the first site at which `other` differs is run again

A structural choice changes what later sites see, so the loss of a plan is not that of the same candidates as they were first
fitted. What is measured here is what `Trials.plan` makes, but for the number of inputs. With a `Mender` the layers behind such a
choice get new weights on the way, as those of the plan that is settled on will.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from mpcc import registry
from mpcc.approximate import Approximation, Choice, SiteStatistics
from mpcc.approximate.expand import site_function
from mpcc.calibration.calibrate import seen_at, statistics_of, stretch_of
from mpcc.calibration.quantities import site_of
from mpcc.calibration.ranges import ELEMENTS_AT_ONCE
from mpcc.calibration.sequential_fit import LARGEST
from mpcc.compensate import Mender
from mpcc.errors import RangeError
from mpcc.ir.nn import attribute, is_site, size_of

from .candidates import Candidate, refitted
from .neighbourhood import from_inputs
from .parts import Parts
from .problem import Picks
from .replay import Outputs

Values = Mapping[fx.Node, Tensor]
Piece = tuple[Sequence[fx.Node], set[fx.Node]]
"""Calls that follow one another, and what is read after them."""
Site = tuple[fx.Node, Callable[..., Any]]
"""The node of a site, and what it computes."""


@dataclass
class Stop:
    """On arrival at a site: the values that it and later nodes read, whether a structural choice lies behind, and what the site
    sees, once that was asked for."""

    values: Values
    changed: bool
    seen: SiteStatistics | None = None


@dataclass(frozen=True)
class Walk:
    """Picks with the loss and the drop that they cause: infinite where values leave what later sites can take. `stops` are those
    of every site, in order, where they are kept."""

    picks: Picks
    stops: tuple[Stop, ...]
    loss: float
    drop: float


class Walker:
    """Fits and runs picks on `columns` [calls, ...]. `candidates` and `parts`: of every site, in the order of the graph."""

    def __init__(
        self,
        graph_module: fx.GraphModule,
        columns: tuple[Tensor, ...],
        candidates: Mapping[str, Sequence[Candidate]],
        parts: Mapping[str, Parts],
        measure: Callable[[Outputs], tuple[float, float]],
        synthetic: bool,
        mender: Mender | None = None,
    ) -> None:
        self.module, self.columns = graph_module, columns
        self.known, self.candidates, self.parts, self.measure = registry.approximations(), candidates, parts, measure
        self.fits = dict[tuple[str, int], list[Choice]]()
        self.synthetic, self.stretch = synthetic, stretch_of(synthetic)
        nodes, fed = list(graph_module.graph.nodes), from_inputs(graph_module)
        self.constants: dict[fx.Node, Any] = {}
        for node in nodes:
            if node.op == "get_attr":
                self.constants[node] = attribute(graph_module, str(node.target)).detach()
            elif node.op == "call_function" and node not in fed:
                self.constants[node] = _called(node, node.target, self.constants)
        calls = [node for node in nodes if node.op == "call_function" and node in fed]
        self.outputs = _listed(nodes[-1].args[0])
        self.sites = [node for node in calls if is_site(node)]
        assert [node.meta["site"] for node in self.sites] == list(candidates), "in the order of the graph"
        self.mender = mender
        placeholders = [node for node in nodes if node.op == "placeholder"]
        self.start = dict(zip(placeholders, columns, strict=True))
        starts = [0, *(place for place, node in enumerate(calls) if is_site(node))]
        cuts = set() if mender is None else {place for place, node in enumerate(calls) if node in mender.targets}
        self.whole = [_pieces(calls, self.outputs, [one, end]) for one, end in itertools.pairwise([*starts, len(calls)])]
        self.pieces = [
            _pieces(calls, self.outputs, sorted({one, end} | {cut for cut in cuts if one < cut < end}))
            for one, end in itertools.pairwise([*starts, len(calls)])
        ]

    def walk(self, picks: Picks, base: Walk | None = None) -> Walk:
        """The picks, from the first site on at which they differ from `base`, as a base for others."""
        return self._from(picks, base, keep=True)

    def result(self, picks: Picks, base: Walk | None = None) -> Walk:
        """The same, but no base for others."""
        return self._from(picks, base, keep=False)

    def results(self, many: Sequence[Picks], base: Walk) -> list[Walk]:
        """`result` of many picks, side by side on the workers that there are; none sees a fit that another one makes."""
        from .sweeps import results  # which makes walkers, in other processes

        return results(self, many, base)

    def _from(self, picks: Picks, base: Walk | None, keep: bool) -> Walk:
        own, stops = self.by_site(picks), list[Stop]()
        try:
            if base is None:
                first, stop = 0, Stop(self._run(0, self.start, None, False), False)
            else:
                pairs = enumerate(zip(own, self.by_site(base.picks), strict=True))
                first = next((place for place, (one, other) in pairs if one != other), len(own))
                if first >= len(base.stops):  # the same, or lost before they differ
                    return replace(base, picks=picks)
                stops, stop = list(base.stops[:first]), base.stops[first]
            for place in range(first, len(own)):
                stops += [stop] if keep else []
                stop = self._passed(place, own[place], stop)
        except RangeError:
            return Walk(picks, tuple(stops), math.inf, math.inf)
        return Walk(picks, tuple(stops), *self.measure(tuple(stop.values[node] for node in self.outputs)))

    def by_site(self, picks: Picks) -> list[tuple[int, ...]]:
        """The picks of the parts of each site."""
        left = iter(picks)
        return [tuple(next(left) for _ in self.parts[site].groups) for site in self.candidates]

    def _passed(self, place: int, own: Sequence[int], stop: Stop) -> Stop:
        """The stop at the next site, or the end."""
        node = self.sites[place]
        site = node.meta["site"]
        chosen = [self.candidates[site][pick] for pick in own]
        choices = [candidate.choice for candidate in chosen]
        if stop.changed:
            seen = self._seen(node, stop)
            choices = [self._refitted(candidate, seen) for candidate in chosen]
        entry = self.parts[site].entry(choices)
        changed = stop.changed or any(self.known[one.approximation].level == "structural" for one in choices)
        return Stop(self._run(place + 1, stop.values, (node, site_function(node, entry, self.known)), changed), changed)

    def _refitted(self, candidate: Candidate, seen: SiteStatistics) -> Choice:
        """The candidate fitted to what its site sees. A fit that keeps the function serves wherever it holds."""
        approximation = self.known[candidate.choice.approximation]
        if approximation.level == "structural":
            return refitted(candidate, seen, self.known)
        fits = self.fits.setdefault((seen.site.name, id(candidate)), [candidate.choice])
        for fit in fits:
            if holds(self.known[fit.approximation], fit, seen):
                return fit
        fits.append(refitted(candidate, seen, self.known))
        return fits[-1]

    def _seen(self, node: fx.Node, stop: Stop) -> SiteStatistics:
        if stop.seen is None:

            def look(*args: Any, **kwargs: Any) -> Any:
                return seen_at(node, args, kwargs, self.stretch, self.known.values())

            operands = [n for n in node.all_input_nodes if n not in self.constants]

            def one_call(*values: Tensor) -> Any:
                return _called(node, look, self.constants | dict(zip(operands, values, strict=True)))

            rows = self._over(one_call, [stop.values[n] for n in operands], size_of(node))
            stop.seen = statistics_of(site_of(node), rows, self.synthetic, self.stretch)
        return stop.seen

    def _run(self, number: int, values: Values, site: Site | None, changed: bool) -> Values:
        """The values that are read after a segment: those of its nodes, the site at its head included, and older ones."""
        for nodes, wanted in self.pieces[number] if changed else self.whole[number]:
            constants, first = self.constants, nodes[0] if nodes else None
            if changed and self.mender is not None and first in self.mender.targets:
                constants = constants | self.mender.solved(first, values, constants)
            values = self._computed(nodes, wanted, values, site, constants)
        return values

    def _computed(
        self, order: Sequence[fx.Node], wanted: set[fx.Node], values: Values, site: Site | None, constants: Mapping[fx.Node, Any]
    ) -> Values:
        """The wanted values after some nodes that follow one another."""
        inside, head = set(order), site is not None and site[0] in order
        operands = list(dict.fromkeys(n for node in order for n in node.all_input_nodes if n in values and n not in inside))
        made = [node for node in order if node in wanted or (site is not None and node is site[0])]

        def one_call(*given: Tensor) -> list[Tensor]:
            env: dict[fx.Node, Any] = {**constants, **dict(zip(operands, given, strict=True))}
            for node in order:
                env[node] = _called(node, site[1] if site is not None and node is site[0] else node.target, env)
            return [env[node] for node in made]

        found = {node: value for node, value in values.items() if node in wanted}
        if made:
            largest = max(map(size_of, order))
            found |= dict(zip(made, self._over(one_call, [values[n] for n in operands], largest), strict=True))
        if site is not None and head and not found[site[0]].abs().max() < LARGEST:  # also false for NaN
            raise RangeError("values overflow the fixed-point range", where=f"site {site[0].meta['site']}")
        return {node: value for node, value in found.items() if node in wanted}

    @torch.no_grad()
    def _over(self, one_call: Callable[..., Any], columns: Sequence[Tensor], largest: int) -> Any:
        chunk = max(1, ELEMENTS_AT_ONCE // max(1, largest))
        return torch.func.vmap(one_call, chunk_size=chunk, randomness="error")(*columns)


def holds(approximation: Approximation, choice: Choice, seen: SiteStatistics) -> bool:
    """Whether all that a site sees lies where a choice holds."""
    domain = approximation.domain(choice.options)
    return all(
        name in seen.ranges and low <= seen.ranges[name].low and seen.ranges[name].high <= high
        for name, (low, high) in domain.items()
    )  # fmt: skip


def _called(node: fx.Node, function: Any, env: Mapping[fx.Node, Any]) -> Any:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: env[n])
    return function(*args, **kwargs)


def _listed(result: Any) -> list[fx.Node]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _pieces(calls: Sequence[fx.Node], result: Sequence[fx.Node], cuts: Sequence[int]) -> list[Piece]:
    """(calls, what is read after them) between one cut and the next."""
    return [(calls[one:end], _read_later(calls, result, end)) for one, end in itertools.pairwise(cuts)]


def _read_later(calls: Sequence[fx.Node], result: Sequence[fx.Node], end: int) -> set[fx.Node]:
    """What is read by the calls from `end` on, or handed out."""
    return {operand for node in calls[end:] for operand in node.all_input_nodes} | set(result)
