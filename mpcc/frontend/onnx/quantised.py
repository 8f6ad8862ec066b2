"""Whether the quantised values of a file are only moved before they are dequantised, by what they were quantised with.

Only then is the float that they stand for all that matters, and `operators/quantization.py` reads them as this float.
"""

from __future__ import annotations

from onnx import GraphProto, NodeProto, TensorProto

from mpcc.errors import UnsupportedOperator

from .op import describe

MOVES = {
    *("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Expand", "Split", "Tile"),
    *("MaxPool", "DepthToSpace", "SpaceToDepth"),
}
HINT = "Export the float32 model: private inference has its own fixed point."


def check_quantised(graph: GraphProto) -> None:
    """UnsupportedOperator for a quantised value that is computed with, or that the model returns."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kept: dict[str, NodeProto] = {}  # value -> the node that quantised it
    constant = {*stored, *(tensor.values.name for tensor in graph.sparse_initializer), ""}
    for node in graph.node:
        sources = [kept[name] for name in node.input if name in kept]
        if all(name in constant for name in node.input) and not any(item.HasField("g") for item in node.attribute):
            constant.update(node.output)  # computed at once, whatever it is
        elif node.op_type == "QuantizeLinear":
            kept.update(dict.fromkeys(node.output, node))
        elif sources and node.op_type in MOVES:
            kept.update(dict.fromkeys(node.output, sources[0]))
        elif sources and not (node.op_type == "DequantizeLinear" and _match(sources[0], node, stored)):
            raise UnsupportedOperator("it computes with quantised numbers", where=describe(node, ""), hint=HINT)
    for info in graph.output:
        if info.name in kept:
            raise UnsupportedOperator(f"the output {info.name} is quantised", where=describe(kept[info.name], ""), hint=HINT)


def _match(first: NodeProto, second: NodeProto, stored: dict[str, TensorProto]) -> bool:
    """Whether scale and zero point are the same values."""
    pairs = list(zip(first.input[1:], second.input[1:], strict=False))
    alike = all(one == other or _same(stored.get(one), stored.get(other)) for one, other in pairs)
    return alike and len(first.input) == len(second.input)


def _same(one: TensorProto | None, other: TensorProto | None) -> bool:
    if one is None or other is None:
        return False
    copy = TensorProto()
    copy.CopyFrom(one)
    copy.name = other.name
    return bool(copy == other)
