"""Operators by the definitions that ONNX itself gives: a function of simpler operators, with the node's attributes filled in.

What the table of readers lacks, or a form of an operator that its reader refuses, is read through its body. Every attribute
is then used, because the body refers to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TypeProto, ValueInfoProto, helper

from .op import dtype_of, shape_of
from .recorder import Value

# Definitions in whole numbers are of no use to a private program, and those of training are none of its business.
NO_USE = re.compile(r"Quantize|Integer$|QLinear|^Bernoulli$")
TYPES = {
    torch.float64: onnx.TensorProto.DOUBLE,
    torch.int64: onnx.TensorProto.INT64,
    torch.bool: onnx.TensorProto.BOOL,
}


@dataclass(frozen=True)
class Body:
    """Nodes between named inputs and outputs, and the opsets that they are written in."""

    graph: GraphProto
    inputs: Sequence[str]
    opsets: dict[str, int]


def has_body(node: NodeProto, version: int) -> bool:
    """Whether ONNX defines the operator by others, at that opset of its domain."""
    schema = _schema(node, version)
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def body_of(node: NodeProto, version: int, inputs: Sequence[Value | None]) -> Body | None:
    """The body of a node whose inputs have these types; None where ONNX has none."""
    schema = _schema(node, version)
    if schema is None:
        return None
    function = FunctionProto()
    if schema.has_function:
        at = _newest(schema.function_opset_versions, version)
        function.ParseFromString(schema.get_function_with_opset_version(at))
    elif schema.has_context_dependent_function:
        at = _newest(schema.context_dependent_function_opset_versions, version)
        types = [_type(value).SerializeToString() for value in inputs]
        made = schema.get_context_dependent_function_with_opset_version(at, _filled(node, schema).SerializeToString(), types)
        function.ParseFromString(made)
    else:
        return None
    given = {item.name: item for item in _filled(node, schema).attribute}
    nodes = [_with_attributes(item, given) for item in function.node]
    outputs = [ValueInfoProto(name=name) for name, wanted in zip(function.output, node.output, strict=False) if wanted]
    graph = GraphProto(name=node.op_type, node=nodes, output=outputs)
    opsets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in function.opset_import}
    return Body(graph, list(function.input), opsets)


def _schema(node: NodeProto, version: int) -> Any:  # an OpSchema, whose declared types lack half of it
    if NO_USE.search(node.op_type):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, version, "" if node.domain == "ai.onnx" else node.domain)
    except onnx.defs.SchemaError:
        return None


def _newest(versions: Sequence[int], version: int) -> int:
    return max((one for one in versions if one <= version), default=min(versions))


def _type(value: Value | None) -> TypeProto:
    if value is None:
        return TypeProto()
    return helper.make_tensor_type_proto(TYPES.get(dtype_of(value), onnx.TensorProto.FLOAT), shape_of(value))


def _filled(node: NodeProto, schema: Any) -> NodeProto:
    """The node with the attributes that it leaves to their defaults."""
    filled = NodeProto()
    filled.CopyFrom(node)
    present = {item.name for item in node.attribute}
    for name, attribute in schema.attributes.items():
        if name not in present and attribute.default_value.name:
            filled.attribute.append(attribute.default_value)
    return filled


def _with_attributes(node: NodeProto, given: dict[str, AttributeProto]) -> NodeProto:
    """The node with attributes in the place of references to them; a reference to what is not given falls away."""
    made = NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    for item in node.attribute:
        if item.ref_attr_name and item.ref_attr_name not in given:
            continue
        copy = made.attribute.add()
        copy.CopyFrom(given[item.ref_attr_name] if item.ref_attr_name else item)
        copy.name = item.name
        for graph in _graphs(copy):
            inner = [_with_attributes(one, given) for one in graph.node]
            del graph.node[:]
            graph.node.extend(inner)
    return made


def _graphs(attribute: AttributeProto) -> Iterable[GraphProto]:
    return [attribute.g, *attribute.graphs] if attribute.type == AttributeProto.GRAPH else attribute.graphs
