"""What a choice at a site costs: its neighbourhood expanded, lowered and counted, the same structure only once.

A choice's rounds are those that its neighbourhood takes beyond the products in it; bytes and local work are those of the
neighbourhood. So differences between choices are exact there, and what all choices share is settled once the whole
program of some plan has been priced (`Problem.corrected_to`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Plan
from mpcc.approximate.expand import expand
from mpcc.cost import Work
from mpcc.ir import mpc
from mpcc.ir.nn import WHOLE_VIEWS, sites, size_of

from .expansion import OPENS, expansion
from .neighbourhood import Neighbourhood, neighbourhood
from .replay import Replay

aten = torch.ops.aten
BYTES = 16  # of a ring element, both ways
BITS = {mpc.less: 6, mpc.select: 1}
Calls = list[tuple[Tensor, ...]]
Measure = Callable[[fx.GraphModule, Calls], tuple[Work, float]]
"""Prices an mpc-level graph, given calls of it: a protocol's business. Also the local seconds that know no size."""


class Prices:
    """prices(site, choice) -> Work. An MpccError where a choice cannot be lowered there.

    `rough` prices the site alone, without lowering it: good enough to tell what need not be priced at all.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        replay: Replay,
        approximations: Mapping[str, Approximation],
        measure: Measure,
        parallel: bool = True,
    ) -> None:
        self.nodes, self.module = sites(graph_module), graph_module
        self.replay, self.approximations, self.measure, self.parallel = replay, approximations, measure, parallel
        self.places: dict[str, tuple[Neighbourhood, Calls, Any]] = {}
        self.known: dict[Any, tuple[Work, float]] = {}
        self.guesses: dict[Any, Work] = {}

    def __call__(self, site: str, choice: Choice) -> Work:
        return self._measured(site, choice)[0]

    def once(self, site: str, choice: Choice) -> float:
        """The local seconds that a choice costs in however small a part of the site."""
        return self._measured(site, choice)[1]

    def _measured(self, site: str, choice: Choice) -> tuple[Work, float]:
        place, calls, shape = self._place(site)
        key = (shape, choice.approximation, structure(choice.options))
        if key not in self.known:
            self.known[key] = self.measure(expand(place.graph, Plan({site: choice}), self.approximations), calls)
        work, once = self.known[key]
        own = work.rounds - place.products if self.parallel else work.rounds
        return Work(own, work.bytes, work.local_seconds), once

    def rough(self, site: str, choice: Choice) -> Work:
        """Rounds as depth, bytes of what is opened, local work as the number of operations times their size."""
        key = (self._place(site)[2], choice.approximation, structure(choice.options))
        if key not in self.guesses:
            self.guesses[key] = rough_work(expansion(self.nodes[site], choice, self.approximations))
        return self.guesses[key]

    def _place(self, site: str) -> tuple[Neighbourhood, Calls, Any]:
        if site not in self.places:
            place = neighbourhood(self.module, self.nodes[site])
            columns = [self.replay.values[source] for source in place.sources]
            self.places[site] = place, list(zip(*columns, strict=True)), signature(place.graph)
        return self.places[site]


def signature(graph_module: fx.GraphModule) -> tuple[Any, ...]:
    """Structure and shapes of a graph without its numbers: equal ones cost the same."""
    index = {node: position for position, node in enumerate(graph_module.graph.nodes)}

    def plain(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return ("node", index[value])
        if isinstance(value, Mapping):
            return tuple((key, plain(entry)) for key, entry in value.items())
        if isinstance(value, Sequence) and not isinstance(value, str):
            return tuple(plain(entry) for entry in value)
        return "number" if isinstance(value, float) else value

    return tuple(_row(node, plain) for node in graph_module.graph.nodes)


def _row(node: fx.Node, plain: Callable[[Any], Any]) -> Any:
    value = node.meta.get("val")
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else None
    target = "" if node.op in ("placeholder", "get_attr") else node.target
    return node.op, target, shape, plain(node.args), plain(node.kwargs)


def structure(options: Any) -> Any:
    """The options of a candidate without their numbers: integers and words, lengths of lists, which numbers are 0 or 1."""
    if isinstance(options, Mapping):
        return tuple((key, structure(value)) for key, value in options.items())
    if isinstance(options, (list, tuple)):
        return tuple(structure(value) for value in options)
    if isinstance(options, float):
        return options if options in (0.0, 1.0, -1.0) else "number"
    return options


SECONDS_AN_ELEMENT = 1e-8
"""Of one operation, some kernels each; only used to compare rough prices."""


def rough_work(graph: fx.Graph) -> Work:
    """The work of an mpc-level graph by its primitives: every value is opened once, whatever uses it."""
    rounds: dict[fx.Node, int] = {}
    opened: set[fx.Node] = set()
    size = local = 0.0
    for node in graph.nodes:
        before = max((rounds[n] for n in node.all_input_nodes), default=0)
        rounds[node] = before + OPENS.get(node.target, 0)
        count = size_of(node)
        local += SECONDS_AN_ELEMENT * count * (node.target in OPENS)
        size += BITS.get(node.target, 0) / 64 * BYTES * count
        if node.target not in OPENS:
            continue
        for operand in node.all_input_nodes:
            while operand.target in WHOLE_VIEWS or operand.target is mpc.scale:
                operand = operand.all_input_nodes[0]
            if operand not in opened and operand.target is not mpc.less:
                opened.add(operand)
                size += BYTES * size_of(operand)
    return Work(max(rounds.values(), default=0), size, local)
