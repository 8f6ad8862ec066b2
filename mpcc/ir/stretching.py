"""What the softmax sites of an mpc-level graph compute when the logits are somewhat larger than calibration showed.

Exponentials turn a little more than was seen into a lot more: logits that are a fifth larger make denominators that are
ten times larger. So their ranges, and the fits that pass for them, also cover calibration logits times `STRETCH`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

STRETCH = 1.25
OPERATORS = frozenset({"softmax"})


@dataclass(frozen=True)
class Region:
    """The nodes between a site's logits and its result, some of which belong to the layer (a product moved forward)."""

    entries: frozenset[fx.Node]
    nodes: frozenset[fx.Node]


def regions(graph: fx.Graph) -> dict[fx.Node, Region]:
    """Node -> the region that it lies in."""
    sites: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        site = node.meta.get("site")
        if site and node.op == "call_function" and site.rsplit(".", 1)[-1].split("#")[0] in OPERATORS:
            sites.setdefault(site, []).append(node)
    found: dict[fx.Node, Region] = {}
    for own in sites.values():
        region = _region(graph, set(own))
        found.update(dict.fromkeys(region.nodes, region))
    return found


def _region(graph: fx.Graph, own: set[fx.Node]) -> Region:
    below: set[fx.Node] = set()  # computed from some node of the site
    for node in graph.nodes:
        if node in own or (node.op == "call_function" and any(a in below for a in node.all_input_nodes)):
            below.add(node)
    above: set[fx.Node] = set()  # used by some node of the site
    for node in reversed(graph.nodes):
        if node in own or any(user in above for user in node.users):
            above.add(node)
    entries = {a for node in own for a in node.all_input_nodes if a not in below and a.op == "call_function"}
    return Region(frozenset(entries), frozenset(below & above))


class Stretched(fx.Interpreter):
    """Runs a graph; `seen` holds, for every node, `look(value)` and `look` of its value under stretched logits."""

    def __init__(self, graph_module: fx.GraphModule, where: dict[fx.Node, Region], stretch: float, look: Any) -> None:
        super().__init__(graph_module)
        self.where, self.stretch, self.look = where, stretch, look
        self.wide: dict[fx.Node, Any] = {}
        self.seen: dict[str, tuple[Any, Any]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if not isinstance(value, Tensor) or n.op == "output":
            return value
        plain = self.look(value)
        region = self.where.get(n)
        if region is None:
            self.seen[n.name] = (plain, plain)
            return value
        args, kwargs = fx.node.map_arg((n.args, n.kwargs), lambda a: self._wide(a, region))
        assert callable(n.target)
        self.wide[n] = n.target(*args, **kwargs)
        self.seen[n.name] = (plain, self.look(self.wide[n]))
        for read in self.user_to_last_uses.get(n, []):
            self.wide.pop(read, None)
        return value

    def _wide(self, node: fx.Node, region: Region) -> Any:
        if node in region.entries:
            return self.env[node] * self.stretch
        return self.wide[node] if node in region.nodes else self.env[node]
