"""Where an mpc-level graph has the result of each site: there a program is held against it.

What a site expands to ends in one node, its result (`RESULT` in its meta, which `Edit.replace` hands on). A pass may move a
factor of it behind the next product, so that no node has the result any more:

    matmul(mul(e, r), v)  ->  mul(matmul(e, v), r)

The product by r stays the site's own then, and the site ends there (`MERGED`): the value has it all. Where nobody noted that, it
ends where the last of what is left of it (r, up to scales and views) is first read.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from . import mpc
from .nn import describe

RESULT = "result"
"""Of a node: the sites, mostly one, whose result it is."""
MERGED = "merged"
"""Of a node that multiplies a layer's result by a factor of a site: (site, layer) pairs of the sites that end there; none where
other factors of the site are still missing."""


@dataclass(frozen=True)
class SiteEnd:
    """`moved` names what the node computes where that is not the site's own result but one that was merged with it."""

    node: fx.Node
    moved: str = ""


def mark_result(node: fx.Node, site: str) -> None:
    """Note that `node` computes the result of `site`."""
    node.meta[RESULT] = (*node.meta.get(RESULT, ()), site)


def merge_result(old: fx.Node, new: fx.Node, into: str) -> None:
    """`new` multiplies the result of the layer `into` by the factor that `old` multiplied by."""
    sites = [*old.meta.get(RESULT, ()), *(site for site, _ in old.meta.get(MERGED, ()))]
    new.meta[MERGED] = (*new.meta.get(MERGED, ()), *((site, into) for site in sites))


def hand_on(old: fx.Node, new: fx.Node) -> None:
    """`new` computes what `old` did."""
    for site in old.meta.get(RESULT, ()):
        mark_result(new, site)
    if MERGED in old.meta:
        new.meta[MERGED] = (*new.meta.get(MERGED, ()), *old.meta[MERGED])


def site_ends(graph: fx.Graph) -> dict[str, SiteEnd]:
    """Site -> where it ends, in the order of the graph. A site of which the graph has nothing (an identity, or what was
    computed before for another site) is left out."""
    own = dict[str, list[fx.Node]]()
    ends, merged_ends = dict[str, SiteEnd](), dict[str, SiteEnd]()
    for node in graph.nodes:
        if node.meta.get("site"):
            own.setdefault(str(node.meta["site"]), []).append(node)
        ends.update((site, SiteEnd(node)) for site in node.meta.get(RESULT, ()))
        for site, into in node.meta.get(MERGED, ()):
            merged_ends.setdefault(site, SiteEnd(node, into))
    ends = merged_ends | ends
    order = {node: place for place, node in enumerate(graph.nodes)}
    merged = ((site, _merged(site, nodes, order)) for site, nodes in own.items() if site not in ends)
    ends.update((site, end) for site, end in merged if end is not None)
    return dict(sorted(ends.items(), key=lambda item: order[item[1].node]))


def _merged(site: str, nodes: list[fx.Node], order: dict[fx.Node, int]) -> SiteEnd | None:
    """The first reader outside the site of what it computes last: what most of its own steps lead to, scales and views aside."""
    steps = dict[fx.Node, int]()
    for node in nodes:
        passed = node.target is mpc.scale or node.target in mpc.VIEWS
        steps[node] = max((steps[one] for one in node.all_input_nodes if one in steps), default=0) + (not passed)
    left, readers = [max(nodes, key=steps.__getitem__)], list[fx.Node]()
    for node in left:
        for user in node.users:
            (left if user.meta.get("site") == site else readers).append(user)
    readers = [one for one in readers if one.op != "output"]
    if not readers:
        return None
    first = min(readers, key=order.__getitem__)
    return SiteEnd(first, str(first.meta.get("layer") or first.meta.get("site") or describe(first)))
