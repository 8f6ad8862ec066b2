"""What onnx itself rewrites of a file: functions are spelt out, and opsets before mpcc's oldest go through its version converter.

That converter counts the axes of an old broadcast (`broadcast=1, axis=1`) wrongly, so these are written out before; and what it
makes has to have the output shapes that the file declares.
"""

from __future__ import annotations

from pathlib import Path

import onnx.inliner
import onnx.shape_inference
import onnx.version_converter
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from mpcc.errors import ModelFileError

from .check import OLDEST, versions
from .op import describe
from .read import Model, read

BROADCASTING = {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"}


def inlined(model: Model) -> ModelProto:
    """The model with its functions spelt out; those of another opset than the model's are converted to it.

    ModelFileError where that fails.
    """
    plain = onnx.inliner.inline_local_functions(model.proto)
    if not plain.functions:
        return plain
    name = f"{plain.functions[0].domain}.{plain.functions[0].name}"
    what = f"the function {name} is of another opset than the model, and onnx cannot convert it"
    try:
        typed = onnx.shape_inference.infer_shapes(plain)  # the converter asks for the types of all values
        made = onnx.inliner.inline_local_functions(typed, convert_version=True)
    except Exception as error:  # RuntimeErrors of C++
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise _failed(f"{what}: {why}", model) from None
    outputs = [name for node in made.graph.node for name in node.output if name]
    if len(set(outputs)) < len(outputs):  # it calls new values alike in every call of a function
        raise _failed(f"{what}: it gives one name to two values", model)
    return made


def modernised(model: Model, source: str | Path | ModelProto) -> Model:
    """The model in the oldest opset that is read. ModelFileError where the converter fails."""
    version = versions(model.proto)[""]
    try:
        whole = source if isinstance(source, ModelProto) else onnx.load(str(source))
        old = onnx.shape_inference.infer_shapes(whole)
        _write_out_broadcasts(old, model.name)
        converted = onnx.shape_inference.infer_shapes(onnx.version_converter.convert_version(old, OLDEST), strict_mode=True)
    except ModelFileError:
        raise
    except Exception as error:  # its failures are RuntimeErrors of C++, and whatever a broken file makes of protobuf
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise _failed(f"the model uses opset {version} of ONNX, and onnx's version converter fails on it: {why}", model) from None
    for before, after in zip(whole.graph.output, converted.graph.output, strict=True):
        pairs = list(zip(_sizes(before), _sizes(after), strict=False))
        if len(_sizes(before)) != len(_sizes(after)) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
            raise _failed(f"onnx's version converter changes the shape of the output {before.name}", model)
    made = read(converted)
    return Model(made.proto, model.name, made.source, made.folder)


def _failed(what: str, model: Model) -> ModelFileError:
    return ModelFileError(what, where=model.name, hint="export it again with opset_version=18")


def _write_out_broadcasts(model: ModelProto, name: str) -> None:
    """Where the second operand starts at an axis of the first, it gets axes of size 1 behind its own: as numpy broadcasts."""
    graph = model.graph
    ranks = {info.name: len(info.type.tensor_type.shape.dim) for info in (*graph.input, *graph.value_info, *graph.output)}
    ranks |= {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        axis = next((item.i for item in node.attribute if item.name == "axis"), None)
        if node.op_type in BROADCASTING and axis is not None:
            first, second = (ranks.get(value) for value in node.input)
            if first is None or second is None:
                raise ModelFileError("a broadcast along an axis of unknown rank", where=f"{name}: {describe(node, '')}")
            missing = list(range(second, first - axis % first))
            if missing:
                wide = f"{node.output[0]}__wide"
                nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [wide], axes=missing))
                node.input[1] = wide
            kept = [item for item in node.attribute if item.name != "axis"]
            del node.attribute[:]
            node.attribute.extend(kept)
        nodes.append(node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _sizes(info: ValueInfoProto) -> list[int | None]:
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in info.type.tensor_type.shape.dim]
