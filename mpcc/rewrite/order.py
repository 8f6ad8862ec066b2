"""The order in which passes run: sorted by what each declares in `after`, then repeated until none changes the graph.

    ordered([fuse, fold])             a pass stands behind all those that it names; where that leaves a choice, by name
    settle(graph_module, passes)      round and round until every pass has seen the graph and left it as it is
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence

import networkx as nx
from torch.fx import GraphModule

from mpcc.errors import InvalidGraph, UsageError

from .passes import Pass, Rewritten

MOST_SWEEPS = 8
"""No model of the tests takes more than 3, of which the last changes nothing: more means that passes undo each other."""

AfterPass = Callable[[Pass, Rewritten], None]


def ordered(passes: Iterable[Pass]) -> list[Pass]:
    """The passes of one graph level in the order that they run.

    UsageError if a pass names one that does not exist, or if passes wait for each other.
    """
    known = {one.name: one for one in passes}
    for one in known.values():
        for name in one.after:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise UsageError(
                    f"it runs after {name!r}, but there is no such pass of its graph level",
                    where=f"pass {one.name}", hint=f"{hint}known: {', '.join(sorted(known))}",
                )  # fmt: skip
    waits = nx.DiGraph((name, one.name) for one in known.values() for name in one.after)
    waits.add_nodes_from(known)
    try:
        return [known[name] for name in nx.lexicographical_topological_sort(waits)]
    except nx.NetworkXUnfeasible:
        circle = [before for before, _ in nx.find_cycle(waits)]
        cycle = " after ".join(reversed([*circle, circle[0]]))
        raise UsageError(f"these passes wait for each other: {cycle}", hint="remove one of the names from its `after`") from None


def settle(
    graph_module: GraphModule, passes: Sequence[Pass], after_each: AfterPass = lambda rewrite, result: None
) -> GraphModule:
    """Run the passes in turn until each of them has left the graph as it is; `after_each` sees every single result.

    InvalidGraph names the passes that still change it in the last of MOST_SWEEPS sweeps.
    """
    unchanged = 0
    restless: dict[str, None] = {}
    for turn in range(MOST_SWEEPS * len(passes)):
        rewrite = passes[turn % len(passes)]
        if turn % len(passes) == 0:
            restless = {}
        result = rewrite(graph_module)
        after_each(rewrite, result)
        graph_module = result.graph_module
        unchanged = 0 if result.modified else unchanged + 1
        if unchanged == len(passes):
            return graph_module
        if result.modified:
            restless[rewrite.name] = None
    if not passes:
        return graph_module
    raise InvalidGraph(
        f"the passes do not settle: after {MOST_SWEEPS} sweeps the graph is still changed by {', '.join(restless)}",
        hint="A pass must leave its own result alone, and two passes must not undo each other.",
    )
