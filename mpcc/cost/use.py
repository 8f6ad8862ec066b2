"""Reads the uses of primitives off a graph, at the nn or the mpc level: what is called, on which shapes, how visible.

    graph -> [Use(site="blocks.0.attn.softmax", primitive="softmax", shapes=((1, 4, 65, 65),), ...), ...]

An operator is known by its name, so this room needs neither level's semantics. Views move values about and cost
nothing in any protocol with linear shares; they are not uses. Nor is what has public operands only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from mpcc.errors import InvalidGraph
from mpcc.ir import mpc, nonnegative
from mpcc.ir.nn import WHOLE_VIEWS, attribute

PUBLIC, WEIGHTS, SECRET = "public", "weights", "secret"
"""Visibility: known to all; known to the server only; known to nobody."""

_MPC_ARGUMENTS = {
    "scale": ("x", "factor"),
    "polynomial": ("x", "coefficients"),
    "curve": ("x", "low", "step", "pieces"),
    "less": ("x", "threshold"),
    "sum": ("x", "dims", "keepdim"),
    "conv": ("x", "weight", "bias", "stride", "padding", "dilation", "groups"),
}


@dataclass(frozen=True)
class Use:
    """One call of a primitive in a graph. `site` is the node's site, or its layer and primitive if it has none.

    `values` names the value behind each operand (the node that made it, seen through reshapes), `after` the uses that
    must have ended before this one starts.
    """

    site: str
    layer: str
    primitive: str
    shapes: tuple[tuple[int, ...], ...]
    visibility: tuple[str, ...]
    output: tuple[int, ...]
    attrs: Mapping[str, Any]
    node: str
    values: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def uses(graph: GraphModule) -> list[Use]:
    """Every use of a primitive with a secret operand, in order of execution."""
    visible: dict[Node, str] = {}
    names: Counter[str] = Counter()
    bits = set[Node]()
    positive = nonnegative.nonnegative(graph.graph)
    found: list[Use] = []
    values: dict[Node, str] = {}
    made_by: dict[Node, tuple[str, ...]] = {}
    for node in graph.graph.nodes:
        visible[node] = _visibility(graph, node, visible)
        if node.target is mpc.less or (node.target in mpc.VIEWS and operands(node) and bits.issuperset(operands(node))):
            bits.add(node)
        whole = node.target in WHOLE_VIEWS and operands(node)
        values[node] = values[operands(node)[0]] if whole else node.name
        before = tuple(dict.fromkeys(use for operand in operands(node) for use in made_by[operand]))
        made_by[node] = before
        if node.op != "call_function" or visible[node] == PUBLIC or node.target in mpc.VIEWS:
            continue
        made_by[node] = (node.name,)
        layer = str(node.meta.get("layer", ""))
        primitive = primitive_name(node.target)
        found.append(
            Use(
                site=_site(node, layer, primitive, names),
                layer=layer,
                primitive=primitive,
                shapes=tuple(shape(operand) for operand in operands(node)),
                visibility=tuple(visible[operand] for operand in operands(node)),
                output=shape(node),
                attrs=_attrs(node, primitive, positive, bits),
                node=node.name,
                values=tuple(values[operand] for operand in operands(node)),
                after=before,
            )
        )
    return found


def primitive_name(target: Any) -> str:
    """`softmax` for aten.softmax.int, `less` for mpc.less."""
    packet = getattr(target, "overloadpacket", target)
    return str(getattr(packet, "__name__", packet))


def operands(node: Node) -> list[Node]:
    """The tensors that a node works on, in the order of its arguments."""
    found: list[Node] = []
    map_arg((node.args, node.kwargs), found.append)
    return found


def shape(node: Node) -> tuple[int, ...]:
    """The static shape that capture left on the node."""
    value = node.meta.get("val")
    if value is None or not hasattr(value, "shape"):
        raise InvalidGraph("the node has no shape (meta['val'] is missing)", where=node.name)
    return tuple(int(size) for size in value.shape)


def _visibility(graph: GraphModule, node: Node, visible: Mapping[Node, str]) -> str:
    if node.op == "placeholder":
        return SECRET
    if node.op == "get_attr":
        tensor = attribute(graph, str(node.target))
        secret = isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
        return WEIGHTS if secret else PUBLIC
    seen = {visible[operand] for operand in operands(node)}
    return SECRET if SECRET in seen else WEIGHTS if WEIGHTS in seen else PUBLIC


def _site(node: Node, layer: str, primitive: str, names: Counter[str]) -> str:
    if node.meta.get("site"):
        return str(node.meta["site"])
    name = f"{layer}.{primitive}" if layer else primitive
    names[name] += 1
    return name if names[name] == 1 else f"{name}#{names[name]}"


def _attrs(node: Node, primitive: str, positive: set[Node], bits: set[Node]) -> dict[str, Any]:
    """The arguments that are no tensors, by name; whether what is inverted is proven positive; which operands are bits."""
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        known = tuple(argument.name for argument in schema.arguments)
    else:
        known = _MPC_ARGUMENTS.get(primitive, ())
    named = dict(zip(known, node.args, strict=False)) | dict(node.kwargs)
    attrs = {key: value for key, value in named.items() if not _holds_nodes(value)}
    if primitive in ("div", "reciprocal"):
        attrs["positive"] = node.args[-1] in positive
    if found := tuple(i for i, operand in enumerate(operands(node)) if operand in bits):
        attrs["bits"] = found
    return attrs


def _holds_nodes(value: Any) -> bool:
    found: list[Node] = []
    map_arg(value, found.append)
    return bool(found)
