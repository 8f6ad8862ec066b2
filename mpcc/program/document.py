"""program.json as a whole: read from hostile text, with every field checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from mpcc.errors import BundleError
from mpcc.ir import kinds, online
from mpcc.ir.info import weight_of
from mpcc.ir.nn import shape_of
from mpcc.ir.opcodes import DEALER, ONLINE
from mpcc.ir.shapes import Shape
from mpcc.ir.strict_json import parsed
from mpcc.security import ENDLESS

from .repeats import unpacked
from .rounds import fixed_for_model, schedule
from .serialize import MOST_NODES, graph_of

VERSION = 4
"""Higher wherever a row of `mpcc.ir.opcodes` changes what it means, or the file what it says rows with."""
AGAIN = "Make the bundle again with `mpcc optimize`."
KEYS, OPTIONAL = {"version", "dealer", "online", "outputs", "failures"}, {"hidden"}
"""Of a program. What is optional was added to this version later: files without it are read."""
OUTPUTS = kinds.many(kinds.fields(lambda value, nodes: kinds.name(value), kinds.scale), 1 << 10, least=1)
FAILURES = kinds.many(kinds.fields(kinds.text, kinds.integer(0, kinds.MOST_ELEMENTS), kinds.probability))


@dataclass(frozen=True)
class Document:
    """What program.json says: see `Program`. `shapes` are those of the server's tensors."""

    online: fx.Graph
    dealer: fx.Graph
    correlations: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, float], ...]
    shapes: Mapping[str, Shape]
    failures: tuple[tuple[str, int, float], ...]
    hidden: int | None


def read(text: str | bytes) -> Document:
    """BundleError, naming the field or node, for whatever is not a program of this version."""
    try:
        document = parsed(text)
        _check_version(document)
        rows = unpacked(document["online"], MOST_NODES)
        dealt = graph_of(unpacked(document["dealer"], MOST_NODES), DEALER)
        nodes = graph_of(rows, ONLINE, dealt)
        outputs, failures = OUTPUTS(document["outputs"], nodes), FAILURES(document["failures"], nodes)
        hidden = kinds.whole(document["hidden"], 0, ENDLESS) if "hidden" in document else None
    except ValueError as error:
        raise BundleError(f"damaged: {error}", hint=AGAIN) from None
    revealed = [_revealed(nodes, name) for name, _ in outputs]
    shapes = _shapes(nodes)
    correlations = tuple((name, dealt[source]) for name, source in _shares(rows))
    online_graph = _finished(nodes, revealed)
    dealer_graph = _finished(dealt, [source for _, source in correlations])
    fixed = fixed_for_model(dealer_graph)
    schedule(online_graph, {nodes[name] for name, source in correlations if source in fixed})
    pairs = tuple((name, source.name) for name, source in correlations)
    return Document(online_graph, dealer_graph, pairs, outputs, shapes, failures, hidden)


def _check_version(document: Any) -> None:
    version = document.get("version") if isinstance(document, dict) else None
    if version in range(1, VERSION) and not isinstance(version, bool):
        raise BundleError(f"written by an earlier mpcc (format {version}, this one reads {VERSION})", hint=AGAIN)
    if version != VERSION or isinstance(version, bool):
        raise BundleError(f"not a program of format {VERSION}, which this mpcc reads", hint=AGAIN)
    if not KEYS <= set(document) <= KEYS | OPTIONAL:
        raise ValueError(f"the keys are {', '.join(sorted(KEYS))}, not {kinds.shown(sorted(document))}")


def _revealed(nodes: Mapping[str, fx.Node], name: str) -> fx.Node:
    node = nodes.get(name)
    if node is None or node.target is not online.reveal:
        raise BundleError("an output that is not a revealed value", where=f"output {name}", hint=AGAIN)
    return node


def _shapes(nodes: Mapping[str, fx.Node]) -> Mapping[str, Shape]:
    """The server's tensors; each has one shape, however often it is encoded."""
    found: dict[str, Shape] = {}
    for node in nodes.values():
        if (weight := weight_of(node)) is not None and found.setdefault(weight.constant, shape_of(node)) != shape_of(node):
            raise BundleError("another node encodes the same tensor in another shape", where=f"node {node.name}", hint=AGAIN)
    return found


def _shares(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["name"], row["args"][0]) for row in rows if row["op"] == "correlation"]


def _finished(nodes: Mapping[str, fx.Node], outputs: list[fx.Node]) -> fx.Graph:
    """The graph of the nodes, with its output."""
    graph = next(iter(nodes.values())).graph if nodes else fx.Graph()
    graph.output(tuple(outputs))
    return graph
