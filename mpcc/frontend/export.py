"""nn-level graph -> ONNX file in standard operators. Nothing local is left in it: no paths, no traces, no user names.

Source of the conversion: torch.onnx.export(dynamo=True). Initialisers keep the parameters' own names.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import fx

from mpcc.errors import MissingDependency
from mpcc.files import replacing
from mpcc.ir.nn import copy_graph, inputs_of, verify

# Protobuf refuses to serialise messages of 2 GiB and more; leave room for the graph.
_LARGEST = 2**31 - 2**24


def export_onnx(graph_module: fx.GraphModule, path: str | Path, *, opset: int = 20) -> Path:
    """Write `graph_module` to `path`; onnxruntime computes what the graph computes.

    The file appears whole or not at all, readable by this user alone: it holds the weights. Weights beyond 2 GiB go to
    `<name>.data` beside it. Returns the path.
    """
    verify(graph_module)
    target = Path(path)
    model = to_onnx(graph_module, opset=opset)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, private=True) as part:
        if model.ByteSize() < _LARGEST:
            onnx.save_model(model, part)
        else:
            data = target.name + ".data"
            onnx.save_model(model, part, save_as_external_data=True, location=data, all_tensors_to_one_file=True)
    return target


def to_onnx(graph_module: fx.GraphModule, *, opset: int = 20) -> onnx.ModelProto:
    """The ONNX model of an nn-level graph, inputs and outputs named `input`, `output` (`output_1` ...)."""
    inputs = tuple(
        torch.zeros(node.meta["val"].shape, dtype=node.meta["val"].dtype) for node in inputs_of(graph_module)
    )
    names = [str(node.target) for node in inputs_of(graph_module)]
    (output,) = (node for node in graph_module.graph.nodes if node.op == "output")
    count = len(output.args[0]) if isinstance(output.args[0], tuple) else 1
    with _silence():
        try:
            program = torch.onnx.export(
                copy_graph(graph_module),
                inputs,
                dynamo=True,
                opset_version=opset,
                input_names=names,
                output_names=["output", *(f"output_{i}" for i in range(1, count))],
                optimize=False,
                verbose=False,
            )
        except ImportError as error:
            raise MissingDependency(f"ONNX export needs {error.name}", hint="pip install onnxscript") from error
    assert program is not None
    return strip(program.model_proto)


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what exporters leave behind: metadata, doc strings, the producer's stack traces; names stay."""
    _clear(model)
    model.producer_name, model.producer_version = "mpcc", ""
    _clear_graph(model.graph)
    for function in model.functions:
        _clear(function)
        for node in function.node:
            _clear_node(node)
    return model


def _clear_graph(graph: onnx.GraphProto) -> None:
    _clear(graph)
    graph.name = "main"
    for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        _clear(item)
    for node in graph.node:
        _clear_node(node)


def _clear_node(node: onnx.NodeProto) -> None:
    _clear(node)
    for attribute in node.attribute:
        attribute.ClearField("doc_string")
        if attribute.HasField("t"):
            _clear(attribute.t)
        if attribute.HasField("g"):
            _clear_graph(attribute.g)


def _clear(message: Any) -> None:
    present = message.DESCRIPTOR.fields_by_name
    for name in ("metadata_props", "doc_string", "external_data"):
        if name in present and name != "external_data":
            message.ClearField(name)


@contextlib.contextmanager
def _silence() -> Any:
    """The exporter reports its progress on standard output, and in its log which packages it could have used as well."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(before)
