"""The fewest rounds that a level can reach: at every site the member whose longest chain of openings is shortest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import fx

from mpcc.approximate import Approximation, Choice, Level, Plan, SiteStatistics
from mpcc.approximate.expand import site_function
from mpcc.errors import UnsupportedOperator
from mpcc.ir import mpc
from mpcc.ir.nn import sites
from mpcc.ir.trace import Recorder

from .default_plan import applicable

OPENS = {mpc.mul: 1, mpc.square: 1, mpc.polynomial: 1, mpc.matmul: 1, mpc.less: 2, mpc.select: 1}
"""Rounds that a primitive adds behind its operands."""


def fastest_plan(
    graph_module: fx.GraphModule,
    statistics: Mapping[str, SiteStatistics],
    approximations: Mapping[str, Approximation],
    level: Level,
) -> Plan:
    """The plan with the shortest chain at every site; the error decides between equals."""
    choices = {}
    for name, node in sites(graph_module).items():
        found = list(_ranked(node, statistics[name], approximations, level))
        if not found:
            raise UnsupportedOperator(f"no approximation of level {level} applies at {name}", hint="See `mpcc passes`.")
        choices[name] = min(found, key=lambda entry: entry[0])[1]
    return Plan(choices, {"made_by": "fastest", "level": level})


def _ranked(
    node: fx.Node, seen: SiteStatistics, approximations: Mapping[str, Approximation], level: Level
) -> Iterator[tuple[tuple[int, float], Choice]]:
    for approximation, members in applicable(seen, approximations.values(), level).values():
        for options in members:
            choice = Choice(approximation.name, dict(options))
            error = approximation.error(options)
            yield (depth(node, choice, approximations), float("inf") if error is None else error), choice


def depth(node: fx.Node, choice: Choice, approximations: Mapping[str, Approximation]) -> int:
    """Rounds of one site's expansion, alone."""
    rounds: dict[fx.Node, int] = {}
    for made in expansion(node, choice, approximations).nodes:
        before = max((rounds[n] for n in made.all_input_nodes), default=0)
        rounds[made] = before + OPENS.get(made.target, 0)
    return max(rounds.values(), default=0)


def expansion(node: fx.Node, choice: Choice, approximations: Mapping[str, Approximation]) -> fx.Graph:
    """One site's expansion, alone."""
    graph = fx.Graph()
    recorder = Recorder(graph)

    def place(source: fx.Node) -> fx.Node:
        made = graph.placeholder(source.name)
        made.meta["val"] = torch.empty(source.meta["val"].shape, device="meta")
        return made

    inputs = {source: place(source) for source in node.all_input_nodes}
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: inputs[n])
    recorder.call(site_function(node, choice, approximations), *args, **kwargs)
    return graph
