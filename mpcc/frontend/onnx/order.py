"""Nodes in the order of execution: ONNX demands it, onnxruntime does not, and its float16 converter breaks it."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import GraphProto, NodeProto


def sort_nodes(graph: GraphProto) -> None:
    """Put every node behind those that it reads, in place, else in the given order. A cycle is left to the checker."""
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    needs = [{makers[name] for name in _reads(node) if name in makers} for node in graph.node]
    if all(maker < place for place, before in enumerate(needs) for maker in before):
        return
    order = _order(needs)
    if order is None:
        return
    nodes = [graph.node[place] for place in order]
    sorted_nodes = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(sorted_nodes)


def _reads(node: NodeProto) -> Iterator[str]:
    """What the node reads, and what the graphs inside of it read."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)


def _order(needs: list[set[int]]) -> list[int] | None:
    """Places in an order that respects the needs, each as early as it stood; None if there is a cycle."""
    order: list[int] = []
    state = [0] * len(needs)  # 0 not seen, 1 waits for what it needs, 2 done
    for first in range(len(needs)):
        waiting = [first]
        while waiting:
            place = waiting[-1]
            if state[place] == 2:
                waiting.pop()
                continue
            missing = sorted(maker for maker in needs[place] if state[maker] != 2)
            if any(state[maker] == 1 for maker in missing):
                return None
            if missing:
                state[place] = 1
                waiting += reversed(missing)
                continue
            state[place] = 2
            order.append(waiting.pop())
    return order
