"""The torch front end: an nn.Module, an fx.GraphModule, an ExportedProgram or a .pt2 file -> an nn-level graph.

`torch.export` traces (its training IR keeps linear, layer_norm, gelu, softmax and attention whole); the canonicaliser
does the rest. The result is an evaluation-mode graph in float32 that shares nothing with the model: a model in training
mode is captured as if it were in evaluation mode, half-precision weights become float32, several outputs a flat tuple.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from mpcc.errors import CaptureError, InvalidGraph, ModelFileError
from mpcc.frontend.canonical import canonicalise_program
from mpcc.frontend.canonical.mutation import NeedsFunctional
from mpcc.frontend.examples import Inputs, Shapes, resolve_inputs
from mpcc.frontend.failures import capture_error
from mpcc.ir.nn import copy_graph, verify


def capture_module(
    model: torch.nn.Module | ExportedProgram | str | Path,
    example_inputs: Any = None,
    input_shapes: Shapes | None = None,
) -> fx.GraphModule:
    """The nn-level graph of `model`.

    `example_inputs`: a tensor, a tuple of positional inputs, or a mapping of keyword inputs; only shapes count.
    `input_shapes`: instead, shapes by input name or in order. A graph that carries its shapes needs neither.
    Raises CaptureError (no inputs, data-dependent control flow, NaN weights), UnsupportedOperator, ShapeError.
    """
    if isinstance(model, (str, Path)):
        model = load_program(Path(model))
    if isinstance(model, fx.GraphModule) and _is_captured(model) and example_inputs is None and input_shapes is None:
        return copy_graph(model)
    program = _program(model, example_inputs, input_shapes)
    try:
        return _canonical(program)
    except NeedsFunctional:
        return _canonical(_functional(program))


def load_program(path: Path) -> ExportedProgram:
    """The program in a .pt2 file; ModelFileError if there is none."""
    if not path.is_file():
        raise ModelFileError("there is no such file", where=str(path))
    try:
        return torch.export.load(path)
    except Exception as error:
        raise ModelFileError(
            f"torch.export cannot read it ({type(error).__name__}: {error})",
            where=str(path),
            hint="Write it with torch.export.save(torch.export.export(model, inputs), path).",
        ) from error


def _is_captured(model: fx.GraphModule) -> bool:
    try:
        verify(model)
    except (InvalidGraph, RuntimeError):
        return False
    return True


def _program(
    model: torch.nn.Module | ExportedProgram, example_inputs: Any, input_shapes: Shapes | None
) -> ExportedProgram:
    if isinstance(model, ExportedProgram):
        if _is_static(model):
            return model
        model = model.module()
    module = private_copy(model)
    inputs = resolve_inputs(module, example_inputs, input_shapes)
    return export(module, inputs)


def _is_static(program: ExportedProgram) -> bool:
    return not program.range_constraints


def private_copy(model: torch.nn.Module) -> torch.nn.Module:
    """`model` in evaluation mode and float32 on the CPU, sharing its weights where nothing had to change."""
    shared = {id(item): item for item in (*model.parameters(), *model.buffers())}
    needs_own = any(_needs_change(item) for item in shared.values())
    try:
        module = copy.deepcopy(model, {} if needs_own else dict(shared))
    except (RuntimeError, TypeError) as error:
        raise CaptureError(
            f"the model cannot be copied ({error})", hint="Give a torch.export program instead."
        ) from error
    if needs_own:
        module = module.to("cpu").float()
    for part in module.modules():
        part.training = False
    return module


def _needs_change(item: torch.Tensor) -> bool:
    return item.device.type != "cpu" or item.is_floating_point() and item.dtype != torch.float32


def export(module: torch.nn.Module, inputs: Inputs) -> ExportedProgram:
    """`torch.export.export` without its chatter, its errors in our words.

    Flex attention is exported only if no parameter wants gradients: that is the second try.
    """
    with _quiet(), _attention_spelt_out():
        try:
            return torch.export.export(module, inputs.positional, inputs.keyword, strict=False)
        except Exception as error:
            failure = capture_error(error, module)
            cause = error
        if not isinstance(failure, CaptureError):
            raise failure from cause
        with _without_gradients(module):
            try:
                return torch.export.export(module, inputs.positional, inputs.keyword, strict=False)
            except Exception:
                raise failure from cause


def _canonical(program: ExportedProgram) -> fx.GraphModule:
    return canonicalise_program(program)


def _functional(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place operators, everything else left whole."""
    with _quiet():
        functional: ExportedProgram = program.run_decompositions({})
    return functional


@contextmanager
def _quiet() -> Iterator[None]:
    """torch prints partial graphs and warnings when it traces; our errors say what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _attention_spelt_out() -> Iterator[None]:
    """nn.MultiheadAttention has a fused form for inference that hides its softmax: switched off while tracing."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _without_gradients(module: torch.nn.Module) -> Iterator[None]:
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
