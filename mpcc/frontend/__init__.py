"""The front ends: a torch module, graph or program, or an ONNX file -> an nn-level graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import fx
from torch.export import ExportedProgram
from torch.jit import ScriptFunction, ScriptModule
from torch.nn import Module

from mpcc.errors import CaptureError, ModelFileError, UsageError

from .examples import Shapes
from .fixed import Fixed
from .limits import DEFAULT, Limits

__all__ = ["Limits", "capture"]


def capture(
    model: Any, example_inputs: Any = None, *, input_shapes: Shapes | None = None, fixed: Fixed | None = None,
    limits: Limits = DEFAULT,
) -> fx.GraphModule:  # fmt: skip
    """The nn-level graph of `model`: canonical ATen operators, evaluation mode, float32, static shapes.

    `model` is an nn.Module, an fx.GraphModule, a torch.export program, an ONNX model, or the path of a .pt2 or .onnx
    file. Inputs are taken from `example_inputs` (a tensor, a tuple, a mapping of keywords), else from the graph's own
    metadata, else from `input_shapes` (by name, or in order). `fixed`: values of inputs, by name, that are constants of this
    graph (a tensor, or a number for all elements). Parameters are copies under their own names. A file may be
    as large as `limits` say; nothing that it holds is ever run or imported.
    Raises MpccError: what is wrong, where, and the call to make.
    """
    if isinstance(model, (str, Path)):
        return _from_file(Path(model), example_inputs, input_shapes, fixed or {}, limits)
    if isinstance(model, (Module, ScriptFunction)):
        _refuse_compiled(model)
    if isinstance(model, (Module, ExportedProgram)):
        from .torch import capture_module

        return capture_module(model, example_inputs, input_shapes, fixed or {})
    if type(model).__module__.startswith("onnx"):
        return _from_onnx(model, example_inputs, input_shapes, fixed or {}, limits)
    raise UsageError(
        f"a {type(model).__name__} is not a model",
        hint="Give an nn.Module, an fx.GraphModule, a torch.export program, or the path of a .pt2 or .onnx file.",
    )


def _refuse_compiled(model: Any) -> None:
    """CaptureError for a model whose operators nobody sees, or a part of which is such a one."""
    for name, part in model.named_modules() if isinstance(model, Module) else [("", model)]:
        where = f"layer {name}" if name else None
        if isinstance(part, (ScriptModule, ScriptFunction)):
            hint = "Give the module that was traced or scripted, or its export by torch.onnx.export."
            raise CaptureError("mpcc does not read TorchScript", where=where, hint=hint)
        if type(part).__module__.startswith("torch.ao.nn.quantized"):
            hint = "Give the float model: private inference has its own fixed point."
            raise CaptureError(f"a {type(part).__name__} computes with packed whole numbers", where=where, hint=hint)


def _from_file(
    path: Path, example_inputs: Any, input_shapes: Shapes | None, fixed: Fixed, limits: Limits
) -> fx.GraphModule:
    if path.suffix == ".onnx":
        return _from_onnx(path, example_inputs, input_shapes, fixed, limits)
    if path.suffix == ".pt2":
        from .pt2 import capture_pt2

        return capture_pt2(path, example_inputs, input_shapes, limits, fixed)
    raise ModelFileError(
        f"{path.suffix or 'a file without suffix'} is not a kind of model file",
        where=str(path),
        hint="Known are .onnx, and .pt2 as torch.export.save writes it.",
    )


def _from_onnx(model: Any, example_inputs: Any, input_shapes: Shapes | None, fixed: Fixed, limits: Limits) -> fx.GraphModule:
    from .onnx import capture_onnx

    graph: fx.GraphModule = capture_onnx(model, example_inputs, input_shapes=input_shapes, limits=limits, fixed=fixed)
    return graph
