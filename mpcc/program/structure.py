"""Whether a program is well formed: both graphs valid, shares of what the dealer makes, phases and rounds as they follow.

That every value hidden is hidden well is another question: see `check`.
"""

from __future__ import annotations

from torch import fx

from mpcc.errors import InvalidGraph
from mpcc.ir import opcodes, verify_online
from mpcc.ir.info import info_of
from mpcc.ir.nn import shape_of
from mpcc.ir.verify_online import describe

from .program import Program
from .rounds import directions, fixed_for_model, placed


def verify(program: Program) -> None:
    """InvalidGraph, naming the node and its layer, unless the program is well formed."""
    verify_online.verify(program.dealer.graph, opcodes.DEALER)
    verify_online.verify(program.online.graph, opcodes.ONLINE)
    sources = {node.name: node for node in program.dealer.graph.nodes if node.op != "output"}
    dealt = {program.nodes[share]: sources[source] for share, source in program.correlations}
    fixed = fixed_for_model(program.dealer.graph)
    lasting = {share for share, source in dealt.items() if source in fixed}
    ways = directions(program.online.graph)
    for node in program.online.graph.nodes:
        if node.op != "output":
            if info_of(node).way != ways.get(node, "both"):
                raise InvalidGraph(f"it travels {info_of(node).way}, not {ways.get(node, 'both')}", where=describe(node))
            _check_share(node, dealt.get(node))
            _check_schedule(node, lasting)


def _check_share(node: fx.Node, source: fx.Node | None) -> None:
    if node.op != "placeholder" or info_of(node).given is not None:
        return
    if source is None:
        raise InvalidGraph("a share of no dealer value", where=describe(node))
    if shape_of(source) != shape_of(node):
        raise InvalidGraph(f"the shape is {list(shape_of(node))}, the dealer's {list(shape_of(source))}", where=describe(node))


def _check_schedule(node: fx.Node, lasting: set[fx.Node]) -> None:
    info = info_of(node)
    if info.phase is None:
        raise InvalidGraph("the phase is missing", where=describe(node))
    if (info.phase, info.level) != placed(node, lasting):
        phase, level = placed(node, lasting)
        what = f"scheduled {info.phase} after {info.level} rounds; what it reads is ready {phase} after {level}"
        raise InvalidGraph(what, where=describe(node))
