"""Which of the user's layers an ONNX node belongs to: `blocks.0.attn` of whatever the exporter left.

In this order:
1. `pkg.torch.onnx.name_scopes` or `namespace` among the node's properties (torch's newer exporter);
2. a path in the node's name, or in the name of what it gives: `/blocks/blocks.0/attn/MatMul` (torch's older exporter,
   TensorFlow's), also behind an optimiser's additions;
3. the dotted name of a weight that it reads, `blocks.0.attn.qkv.weight`, or that is applied to what it gives;
4. what the layers before and behind have in common: a softmax between blocks.0.attn.qkv and blocks.0.attn.proj is in
   blocks.0.attn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx.defs
import torch
from onnx import GraphProto, NodeProto

from mpcc.ir.names import safe_path

SCOPES = "pkg.torch.onnx.name_scopes"
# The exporter writes a list as Python prints it; it is never evaluated. Names with quotes in them are not layers.
_QUOTED = re.compile(r"""'([^'\\]*)'|"[^"]*\"""")
# Characters of a property or a name that are looked at.
LONGEST = 1 << 14
PRODUCTS = ("MatMul", "Gemm", "Conv")
NORM_PARTS = ("Div", "Sqrt", "Reciprocal", "Pow", "ReduceMean", "Sub", "Cast")
CHECKPOINT = re.compile(r"^[A-Za-z_]\w*(\.\w+)+$", re.ASCII)
IDENTIFIER = re.compile(r"^[A-Za-z_]\w*$", re.ASCII)
# Names that exporters and optimisers make up.
MADE_UP = re.compile(
    r"^(val_\d+|_?v_?\d+|tmp_\d+|_to_copy\w*|[Cc]onst\w*|ortshared\w*|auto_\w+|p2o\..*|onnx_\w+|t_\d+|t|.*_token_\d+"
    r"|[a-z]+_\d+|\w+__\d+)$"
)


def layers(graph: GraphProto) -> list[str]:
    """The dotted layer of each node, in the graph's order; empty for the model itself and where nothing is known."""
    weights = {tensor.name for tensor in graph.initializer}
    found = [_first(own_layer(node), _of_weights(node, weights)) for node in graph.node]
    _claim(graph, found)
    before, behind = _before(graph.node, found), _behind(graph.node, found)
    return [_between(b, a) if own is None else own for own, b, a in zip(found, before, behind, strict=True)]


def own_layer(node: NodeProto) -> str | None:
    """The layer that the node itself names."""
    properties = {entry.key: entry.value for entry in node.metadata_props}
    return _first(_of_properties(properties), *map(of_path, [node.name, *node.output]))


def _first(*found: str | None) -> str | None:
    """The first that says something; the model itself only if nothing says more."""
    return next(filter(None, found), next((item for item in found if item is not None), None))


def _of_properties(properties: dict[str, str]) -> str | None:
    if SCOPES in properties:
        scopes = _QUOTED.findall(properties[SCOPES][:LONGEST])
        return safe_path(scopes[-2]) if len(scopes) > 1 else None
    if "namespace" in properties:
        path = [part.partition(":")[0].strip() for part in properties["namespace"][:LONGEST].split("/")]
        return safe_path(path[-2]) if len(path) > 1 else None
    return None


def of_path(name: str) -> str | None:
    """blocks.0.attn of /blocks/blocks.0/attn/MatMul_1: a part that repeats the one before it replaces that one.

    The last part is the operator; more of them are dropped where optimisers and Keras append their own.
    """
    if "/" not in name:
        return None
    name = name[:LONGEST]
    parts = [part for part in name.split(":")[0].split("/") if part and not part.endswith("PartitionedCall")][:-1]
    while parts and _is_operator(parts[-1]):
        parts.pop()
    kept: list[str] = []
    for part in parts:
        if kept and part.startswith(f"{kept[-1]}."):
            kept.pop()
        kept.append(part)
    return safe_path(".".join(kept))


def _is_operator(part: str) -> bool:
    stem = re.sub(r"_\d+$", "", part)
    return stem in ("Tensordot", "moments", "batchnorm") or onnx.defs.has(stem)


def _of_weights(node: NodeProto, weights: set[str]) -> str | None:
    for name in node.input:
        if name in weights and is_checkpoint_name(name) and "." in name:
            return safe_path(str(name).rpartition(".")[0])
    return None


def _claim(graph: GraphProto, found: list[str | None]) -> None:
    """Give the parts of a decomposed norm, and a product, the layer of the weight or bias that is applied to them."""
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    fixed = {tensor.name for tensor in graph.initializer}
    fixed |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    waiting = [place for place, node in enumerate(graph.node) if found[place] and node.op_type in ("Add", "Mul")]
    while waiting:
        place = waiting.pop()
        for name in graph.node[place].input:
            maker = makers.get(name)
            if maker is None or found[maker] is not None or not _is_part(graph.node[maker], fixed):
                continue
            found[maker] = found[place]
            if graph.node[maker].op_type not in PRODUCTS:
                waiting.append(maker)


def _is_part(node: NodeProto, fixed: set[str]) -> bool:
    """Of a norm; or a product with a weight. A sum of two values is a residual connection, not part of a norm."""
    varying = {name for name in node.input if name not in fixed}
    if node.op_type in (*PRODUCTS, "Add", "Mul"):
        return len(varying) < 2
    return node.op_type in NORM_PARTS


def is_checkpoint_name(name: str) -> bool:
    """Whether an initialiser's name can be the one of the trained model, and not that of the operator that made it."""
    if MADE_UP.match(name):
        return False
    stem = re.sub(r"_\d+$", "", name)
    return bool(CHECKPOINT.match(name) or (IDENTIFIER.match(name) and not hasattr(torch.ops.aten, stem)))


def _before(nodes: Sequence[NodeProto], found: Sequence[str | None]) -> list[str]:
    """For each node the layer of the nearest one before it, along its first inputs."""
    of_value: dict[str, str] = {}
    result = []
    for node, own in zip(nodes, found, strict=True):
        inherited = next((of_value[name] for name in node.input if of_value.get(name)), "")
        result.append(inherited)
        of_value.update(dict.fromkeys(node.output, own or inherited))
    return result


def _behind(nodes: Sequence[NodeProto], found: Sequence[str | None]) -> list[str]:
    of_value: dict[str, str] = {}
    result = []
    for node, own in zip(reversed(nodes), reversed(found), strict=True):
        inherited = next((of_value[name] for name in node.output if of_value.get(name)), "")
        result.append(inherited)
        of_value.update({name: own or inherited for name in node.input if own or inherited})
    return result[::-1]


def _between(before: str, behind: str) -> str:
    if not before or not behind:
        return before or behind
    common: list[str] = []
    for one, other in zip(before.split("."), behind.split("."), strict=False):
        if one != other:
            break
        common.append(one)
    return ".".join(common) or behind


def parameter_name(name: str) -> str | None:
    """The dotted name that an initialiser keeps; None for one that was made up on the way (`onnx::MatMul_1098`)."""
    if is_checkpoint_name(name):
        return name
    if "/" not in name or "::" in name or re.search(r"_output_\d+$", name):
        return None
    parts = [re.sub(r"\W", "_", part) for part in name.split(":")[0].split("/") if part]
    dotted = ".".join(parts)
    return dotted if CHECKPOINT.match(dotted) and not parts[-1][:1].isupper() else None
