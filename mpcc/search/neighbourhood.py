"""A site with what touches it, cut out of the nn graph, so that the price of a choice there is seen without the rest.

    matmul(q, kT) -> ... -> softmax -> ... -> matmul(., v)        a graph of its own, with q, kT and v as inputs

What reaches to the next products on both sides belongs to it: passes at the mpc level move work across them (a division
behind the product with v, attention without a softmax reassociated), and those savings belong to the choice. `edges`
says which sites follow which, with the products between them: that is all that rounds depend on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import fx

from mpcc.ir.nn import is_site, operator_of

from .problem import Edge


@dataclass(frozen=True)
class Neighbourhood:
    """`graph` has one input for each of `sources`, nodes of the whole graph. `products` lie on its longest path."""

    site: str
    graph: fx.GraphModule
    sources: tuple[fx.Node, ...]
    products: int


def neighbourhood(graph_module: fx.GraphModule, site: fx.Node) -> Neighbourhood:
    """The smallest such graph around a site."""
    fed = from_inputs(graph_module)
    inside = {site} | set(_above(site, fed)) | set(_below(site, fed))
    graph, env = fx.Graph(), dict[fx.Node, fx.Node]()
    sources: list[fx.Node] = []
    for node in graph_module.graph.nodes:
        if node not in inside:
            continue
        for operand in node.all_input_nodes:
            if operand in env:
                continue
            if operand.op == "get_attr" or operand not in fed:
                _copied(operand, graph, env)
                continue
            env[operand] = graph.placeholder(operand.name)
            env[operand].meta = {"val": operand.meta["val"], "layer": operand.meta.get("layer", "")}
            sources.append(operand)
        _copied(node, graph, env)
    ends = [node for node in graph_module.graph.nodes if node in inside and not any(user in inside for user in node.users)]
    graph.output(tuple(env[node] for node in ends))
    return Neighbourhood(site.meta["site"], fx.GraphModule(graph_module, graph), tuple(sources), _products(graph))


def _copied(node: fx.Node, graph: fx.Graph, env: dict[fx.Node, fx.Node]) -> None:
    for operand in node.all_input_nodes:
        if operand not in env:
            _copied(operand, graph, env)
    env[node] = graph.node_copy(node, lambda n: env[n])


def from_inputs(graph_module: fx.GraphModule) -> set[fx.Node]:
    """The nodes that depend on an input."""
    found: set[fx.Node] = set()
    for node in graph_module.graph.nodes:
        if node.op == "placeholder" or any(operand in found for operand in node.all_input_nodes):
            found.add(node)
    return found


def _kind(node: fx.Node) -> str:
    operator = operator_of(node)
    return "" if operator is None else operator.kind


def _passed(node: fx.Node, fed: set[fx.Node]) -> bool:
    """Whether a node hands one value on: a view, or arithmetic with constants."""
    return _kind(node) in ("view", "arithmetic") and sum(operand in fed for operand in node.all_input_nodes) == 1


def _above(site: fx.Node, fed: set[fx.Node]) -> Iterable[fx.Node]:
    waiting = list(site.all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node not in fed or not (_passed(node, fed) or _kind(node) == "product"):
            continue
        yield node
        if _kind(node) != "product":
            waiting += node.all_input_nodes


def _below(site: fx.Node, fed: set[fx.Node]) -> Iterable[fx.Node]:
    waiting = list(site.users)
    while waiting:
        node = waiting.pop()
        if not (_passed(node, fed) or _kind(node) == "product"):
            continue
        yield node
        if _kind(node) != "product":
            waiting += list(node.users)


def _products(graph: fx.Graph) -> int:
    depth: dict[fx.Node, int] = {}
    for node in graph.nodes:
        before = max((depth[operand] for operand in node.all_input_nodes), default=0)
        depth[node] = before + (_kind(node) == "product")
    return max(depth.values(), default=0)


def edges(graph_module: fx.GraphModule) -> tuple[Edge, ...]:
    """Which sites follow which, and the most products between them: their operands are opened, a round each."""
    fed = from_inputs(graph_module)
    reaching: dict[fx.Node, dict[str | None, int]] = {}  # node -> last site before it -> products since
    found: dict[tuple[str | None, str | None], int] = {}

    def arriving(node: fx.Node) -> dict[str | None, int]:
        merged: dict[str | None, int] = {}
        for operand in node.all_input_nodes:
            for source, products in reaching.get(operand, {}).items():
                merged[source] = max(merged.get(source, 0), products)
        return merged

    for node in graph_module.graph.nodes:
        if node not in fed:
            continue
        before: dict[str | None, int] = {None: 0} if node.op == "placeholder" else arriving(node)
        if node.op == "output" or is_site(node):
            target = None if node.op == "output" else node.meta["site"]
            found |= {(source, target): products for source, products in before.items()}
        product = int(_kind(node) == "product")
        reaching[node] = {node.meta["site"]: 0} if is_site(node) else {s: p + product for s, p in before.items()}
    return tuple(Edge(source, target, float(products)) for (source, target), products in found.items())
