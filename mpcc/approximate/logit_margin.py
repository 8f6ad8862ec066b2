"""What the softmax sites of an mpc-level graph compute when the logits are somewhat larger than calibration showed.

Exponentials turn a little more than was seen into a lot more: logits that are a fifth larger make denominators that are
ten times larger. So their ranges, and the fits that pass for them, also cover calibration logits times `STRETCH`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from mpcc.ir.nn import WHOLE_VIEWS, site_operator
from mpcc.ir.site_ends import MERGED

STRETCH, SYNTHETIC_STRETCH = 1.25, 1.6
"""On logits of the user's inputs, and on those of inputs that were made from the model. Real inputs make a trained attention
sharper than made ones do: on `pre_norm` of the zoo, 3.9 % of the test images left ranges with 1.25, 0.3 % with 1.5."""
OPERATORS = frozenset({"softmax"})


@dataclass(frozen=True)
class Region:
    """The nodes between a site's logits and its result, some of which belong to the layer (a product moved forward).

    A factor that is multiplied behind a later product ends no region: probabilities stay probabilities under any logits."""

    entries: frozenset[fx.Node]
    nodes: frozenset[fx.Node]


def regions(graph: fx.Graph) -> dict[fx.Node, Region]:
    """Node -> the region that it lies in."""
    sites: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        site = node.meta.get("site")
        if site and node.op == "call_function" and MERGED not in node.meta and site_operator(site) in OPERATORS:
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
        if isinstance(value, Tensor) and n.op != "output":
            self._see(n, value)
        for done in self.user_to_last_uses.get(n, ()):
            self.wide.pop(done, None)
        return value

    def _see(self, n: fx.Node, value: Tensor) -> None:
        region = self.where.get(n)
        if region is not None:
            args, kwargs = fx.node.map_arg((n.args, n.kwargs), lambda a: self._wide(a, region))
            assert callable(n.target)
            self.wide[n] = n.target(*args, **kwargs)
        source = n.all_input_nodes[0] if n.target in WHOLE_VIEWS else None
        if source is not None and source.name in self.seen and self.where.get(source) is region:
            self.seen[n.name] = self.seen[source.name]
            return
        plain = self.look(value)
        self.seen[n.name] = (plain, plain if region is None else self.look(self.wide[n]))

    def _wide(self, node: fx.Node, region: Region) -> Any:
        if node in region.entries:
            return self.env[node] * self.stretch
        return self.wide[node] if node in region.nodes else self.env[node]
