"""The online graph for emulation, with fewer and longer sums: before -> after, the same integers modulo 2^64.

    t = a + 2 b;   u = t - 4 b;   v = u + c                          v = a - 2 b + c
    s = select(p, x);   t = select(q, x);   v = 3 s - 2 t            v = select(3 p - 2 q, x)

A coefficient of a spline is a sum of few powers of two, so the same selected value is added up to four times in a row, and
every piece selects the same powers. Bits are not packed in emulation, and on totals a selection is a product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from mpcc.ir import online
from mpcc.ir.info import annotate, info_of
from mpcc.ir.ring import wrap
from mpcc.ir.uncompiled import Uncompiled

Terms = dict[fx.Node, int]


def flattened(online_graph: Uncompiled) -> Uncompiled:
    """A copy in which a sum, or a selection, that only another sum reads is part of it. What is left keeps its name."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(online_graph.graph, {}))
    for node in [n for n in graph.nodes if n.target is online.combine]:
        node.args = _arguments(_joined(node))
    graph.eliminate_dead_code()
    for node in [n for n in graph.nodes if n.target is online.combine]:
        node.args = _arguments(_selected(node))
    graph.eliminate_dead_code()
    return Uncompiled(graph)


def _arguments(terms: Terms) -> tuple[list[fx.Node], list[int]]:
    return list(terms), list(terms.values())


def _terms(node: fx.Node) -> list[tuple[fx.Node, int]]:
    nodes: Any
    factors: Any
    nodes, factors = node.args
    return list(zip(nodes, factors, strict=True))


def _joined(node: fx.Node) -> Terms:
    """The terms of a sum whose own sums are flat already."""
    terms: Terms = {}
    for term, factor in _terms(node):
        inside = term.target is online.combine and _alone(term) and term.meta["val"].shape == node.meta["val"].shape
        for part, own in _terms(term) if inside else [(term, 1)]:
            terms[part] = wrap(terms.get(part, 0) + factor * own)
    return terms


def _selected(node: fx.Node) -> Terms:
    """The terms of a sum, with one selection for all of the same value and truncation."""
    terms: Terms = {}
    groups: dict[tuple[Any, ...], list[tuple[fx.Node, int]]] = {}
    for term, factor in _terms(node):
        if term.target is online.select and _alone(term):
            _, _, c, f, _, _, _, _, *ring = term.args
            groups.setdefault((c, f, *ring), []).append((term, factor))
        else:
            terms[term] = factor
    for group in groups.values():
        terms |= dict(group) if len(group) == 1 else {_one_selection(node, group): 1}
    return terms


def _one_selection(node: fx.Node, group: Sequence[tuple[fx.Node, int]]) -> fx.Node:
    """select(sum of factor * bits, x), before `node`."""
    first, bits = group[0][0], Terms()
    for term, factor in group:
        bit = term.args[0]
        assert isinstance(bit, fx.Node)
        bits[bit] = wrap(bits.get(bit, 0) + factor)
    with node.graph.inserting_before(node):
        total = node.graph.call_function(online.combine, _arguments(bits))
        made = node.graph.call_function(online.select, (total, *first.args[1:]))
    for new, like in ((total, next(iter(bits))), (made, first)):
        new.meta = dict(like.meta)
        annotate(new, phase=info_of(node).phase, level=info_of(node).level)
    return made


def _alone(term: fx.Node) -> bool:
    """Whether it is read once, and is not looked at by name."""
    return len(term.users) == 1 and info_of(term).end is None and info_of(term).phase == "online"
