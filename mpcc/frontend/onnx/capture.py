"""An ONNX file or ModelProto -> a graph at the nn level, with named parameters, every node with its layer.

    capture_onnx("vit.onnx")
    capture_onnx("vit_dynamic.onnx", input_shapes={"x": (1, 3, 224, 224)})

A batch dimension without a size becomes 1. float16, bfloat16 and float64 weights become float32; so does an input of
integers that the model itself casts to floats (bytes of an image). Weights are read once, never mapped: the file may be
overwritten afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx import ModelProto
from torch import fx

from ..fixed import Fixed, check_names
from ..limits import DEFAULT, Limits
from .check import OLDEST, check, check_sizes, versions
from .importer import Importer
from .modernise import inlined, modernised
from .order import sort_nodes
from .quantised import check_quantised
from .read import read
from .shapes import InputShapes, inputs


def capture_onnx(
    source: str | Path | ModelProto,
    example_inputs: Any = None,
    *,
    input_shapes: InputShapes | None = None,
    limits: Limits = DEFAULT,
    fixed: Fixed | None = None,
) -> fx.GraphModule:
    """The model at the nn level.

    Errors: ModelFileError (absent, cut off, not ONNX, external data missing, checker, opset, NaN), UnsupportedOperator
    (all at once), ShapeError (a dynamic size that is not given), CaptureError (values that decide the graph).
    """
    from ..canonical import canonicalise

    graph = import_graph(source, example_inputs, input_shapes=input_shapes, limits=limits, fixed=fixed)
    return canonicalise(graph, limits.guard(sum(item.numel() * item.element_size() for item in graph.state_dict().values())))


def import_graph(
    source: str | Path | ModelProto,
    example_inputs: Any = None,
    *,
    input_shapes: InputShapes | None = None,
    limits: Limits = DEFAULT,
    fixed: Fixed | None = None,
) -> fx.GraphModule:
    """The graph of the file as it stands, in ATen operators, before it is brought to canonical ones."""
    model = read(source)
    weights = check_sizes(model, limits)
    if versions(model.proto).get("", OLDEST) < OLDEST:
        model = modernised(model, source)
    if model.proto.functions:  # older dynamo exports: every module is a function
        model.proto = inlined(model)
    sort_nodes(model.proto.graph)
    check(model)
    check_quantised(model.proto.graph)
    with limits.guard(min(weights, model.size())):
        given = inputs(model.proto.graph, example_inputs, input_shapes, limits.activation, fixed or {})
        check_names(fixed or {}, [one.name for one in given])
        return Importer(model, limits).run(given, fixed or {})
