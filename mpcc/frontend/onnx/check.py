"""Is this file one that mpcc can read? All complaints of one kind at once, before any weight is read."""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from mpcc.errors import ModelFileError, UnsupportedOperator

from ..limits import HINT, Limits
from .bodies import has_body
from .names import own_layer
from .op import describe
from .operators import domain_of, unknown
from .read import Model, bytes_of, is_external, tensors_of

# Opsets of the standard domain. Before 7, broadcasting was not numpy's: modernise.py converts. What newer ones add to an
# operator of the table is used, or refused by its name (attributes.py) or its number of inputs.
OLDEST, NEWEST = 7, 28
CPU_LAYOUT = "com.microsoft.nchwc"


def check_sizes(model: Model, limits: Limits) -> int:
    """The bytes of all weights. ModelFileError for more nodes or weights than `limits` allow, before any work."""
    try:
        nodes = _Nodes(model.proto, limits.nodes).of_graph(model.proto.graph)
    except RecursionError:
        raise ModelFileError("its functions call each other too deeply", where=model.name) from None
    if nodes > limits.nodes:
        raise ModelFileError(f"the graph has more than {limits.nodes:,} nodes", where=model.name, hint=HINT)
    weights = sum(bytes_of(tensor) for tensor in tensors_of(model.proto))
    if weights > limits.weights:
        raise ModelFileError(
            f"its weights need {weights:,} bytes, more than {limits.weights:,}", where=model.name, hint=HINT
        )
    return weights


class _Nodes:
    """Counts nodes with functions spelt out: functions that call each other twice double with every step."""

    def __init__(self, proto: ModelProto, most: int) -> None:
        self.functions = {(item.domain, item.name): item for item in proto.functions}
        self.most = most
        self.counts: dict[tuple[str, str], int] = {}

    def of_graph(self, graph: GraphProto) -> int:
        return self._of(graph.node)

    def _of(self, nodes: Iterable[NodeProto]) -> int:
        total = 0
        for node in nodes:
            total += self._of_node(node)
            if total > self.most:
                break
        return total

    def _of_node(self, node: NodeProto) -> int:
        inner = sum(self._of(graph.node) for item in node.attribute for graph in (item.g, *item.graphs))
        key = (node.domain, node.op_type)
        if key not in self.functions:
            return 1 + inner
        if key not in self.counts:
            self.counts[key] = self.most + 1  # what it is while it is counted: a function that calls itself is too large
            self.counts[key] = self._of(self.functions[key].node)
        return self.counts[key] + inner


def check(model: Model) -> None:
    """ModelFileError for a version out of range or a broken graph, UnsupportedOperator for unknown operators."""
    _check_versions(model)
    if model.proto.graph.sparse_initializer:
        raise ModelFileError("sparse weights are not supported", where=model.name, hint="export them as dense tensors")
    check_operators(list(model.proto.graph.node), versions(model.proto), model.name)
    _check_structure(model)


def versions(proto: ModelProto) -> dict[str, int]:
    """The opset of each domain."""
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in proto.opset_import}


def _check_versions(model: Model) -> None:
    version = versions(model.proto).get("")
    if version is None or OLDEST <= version <= NEWEST:
        return
    raise ModelFileError(
        f"the model uses opset {version} of ONNX; mpcc reads {OLDEST} to {NEWEST}",
        where=model.name,
        hint="export it with opset_version=18, or convert it with onnx.version_converter.convert_version",
    )


def check_operators(nodes: list[NodeProto], opsets: dict[str, int], where: str) -> None:
    """Raise UnsupportedOperator that lists every operator that is missing, with an example of each."""
    missing: dict[tuple[str, str], list[NodeProto]] = {}
    for node in unknown(nodes):
        if has_body(node, opsets.get(domain_of(node), 1)):
            continue
        missing.setdefault((node.domain, node.op_type), []).append(node)
    if not missing:
        return
    if any(domain == CPU_LAYOUT for domain, _ in missing):
        raise UnsupportedOperator(
            f"the file uses {CPU_LAYOUT}, the memory layout of onnxruntime on one CPU",
            where=where,
            hint="save the optimised model at the level ORT_ENABLE_EXTENDED, not ORT_ENABLE_ALL",
        )
    lines = []
    for (domain, kind), found in missing.items():
        version = opsets.get(domain, 1)
        place = describe(found[0], own_layer(found[0]) or "")
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        lines.append(f"{kind} (domain {domain or 'ai.onnx'}, opset {version}): {place}{more}")
    text = "\n  ".join(["operators that mpcc does not read:", *lines])
    raise UnsupportedOperator(text, where=where, hint=_advice({kind for _, kind in missing}))


def _advice(kinds: set[str]) -> str:
    if any(re.match(r"Quantize|Dequantize|DynamicQuantize|QLinear|.*Integer$", kind) for kind in kinds):
        return "this is a quantised model: export the float32 model, private inference has its own fixed point"
    return "export the model with other operators, or fold that part before the export"


def _check_structure(model: Model) -> None:
    """onnx's own checker, on the graph without its weights (these are checked when they are read)."""
    light = ModelProto()
    light.CopyFrom(model.proto)
    del light.graph.value_info[:]
    for info in (*light.graph.input, *light.graph.output):
        info.type.tensor_type.shape.SetInParent()  # a shape that is not written: shapes.py asks for it where it matters
    for tensor in tensors_of(light):
        if is_external(tensor):
            _empty(tensor)
    version = versions(light).get("", 1)
    for node in light.graph.node:
        # The runtime's optimiser writes operators into the standard domain that it has not, or not yet at that opset.
        if domain_of(node) == "" and not onnx.defs.has(node.op_type, version, ""):
            node.domain = "com.microsoft"
    if "com.microsoft" not in versions(light):
        light.opset_import.add(domain="com.microsoft", version=1)
    try:
        onnx.checker.check_model(light)
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"the model does not pass onnx's checker: {str(error).strip()}",
            where=model.name,
            hint="onnx.checker.check_model says the same of the file; export it again",
        ) from None


def _empty(tensor: TensorProto) -> None:
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    del tensor.dims[:]
    tensor.dims.append(0)
