"""The torch front end: an nn.Module, an fx.GraphModule or an ExportedProgram -> an nn-level graph.

`torch.export` traces (its training IR keeps linear, layer_norm, gelu, softmax and attention whole); the canonicaliser
does the rest. The result is an evaluation-mode graph in float32 that shares nothing with the model: a model in training
mode is captured as if it were in evaluation mode, half-precision weights become float32, several outputs a flat tuple.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from mpcc.errors import CaptureError, InvalidGraph, MpccError
from mpcc.ir.nn import copy_graph, verify

from .canonical import canonicalise_program
from .canonical.mutation import NeedsFunctional
from .canonical.walk import ForeignOperators
from .decompositions import decompositions, rewritten
from .examples import Inputs, Shapes, resolve_inputs
from .fixed import Fixed, secret_ones, with_fixed
from .limits import Limits
from .tracing import export

NOTHING: Fixed = {}


def capture_module(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    input_shapes: Shapes | None = None,
    fixed: Fixed = NOTHING,
) -> fx.GraphModule:
    """The nn-level graph of `model`.

    `example_inputs`: a tensor, a tuple of positional inputs, or a mapping of keyword inputs; only shapes count.
    `input_shapes`: instead, shapes by input name or in order. A graph that carries its shapes needs neither.
    `fixed`: constants in the place of inputs.
    Raises CaptureError (no inputs, data-dependent control flow, NaN weights), UnsupportedOperator, ShapeError.
    """
    known = example_inputs is not None or input_shapes is not None or bool(fixed)
    if isinstance(model, fx.GraphModule) and _is_captured(model) and not known:
        return copy_graph(model)
    return _canonical(_program(model, example_inputs, input_shapes, fixed), fixed=fixed)


def capture_functional(
    module: torch.nn.Module, inputs: Inputs, limits: Limits, weights: int, fixed: Fixed = NOTHING
) -> fx.GraphModule:
    """A program of a file, traced again: its shapes are now given, or it writes memory that others read."""
    return _canonical(export(module, inputs), lambda: limits.guard(weights), fixed)


def _canonical(
    program: ExportedProgram, guard: Callable[[], AbstractContextManager[None]] = nullcontext, fixed: Fixed = NOTHING
) -> fx.GraphModule:
    """The canonical form: by mpcc's own rules, and by PyTorch's decomposition of every operator that has none."""
    decomposed: dict[Any, Any] = {}
    first: ForeignOperators | None = None
    while True:
        try:
            return canonicalise_program(program, guard(), fixed)
        except NeedsFunctional:
            program = rewritten(program, {})
        except ForeignOperators as error:
            first = first or error  # the user knows these operators, and not what they are decomposed into
            more = decompositions(error.targets - decomposed.keys())
            if not more:
                raise first from None
            decomposed |= more
            try:
                program = rewritten(program, more)
            except Exception:  # a decomposition that does not fit this case
                raise first from None
        except MpccError as error:
            raise (first or error) from None


def _is_captured(model: fx.GraphModule) -> bool:
    try:
        verify(model)
    except (InvalidGraph, RuntimeError):
        return False
    return True


def _program(
    model: torch.nn.Module | ExportedProgram, example_inputs: Any, input_shapes: Shapes | None, fixed: Fixed
) -> ExportedProgram:
    if isinstance(model, ExportedProgram):
        if _is_static(model):
            return model
        model = model.module()
    module = private_copy(model)
    inputs = with_fixed(module, resolve_inputs(module, example_inputs, input_shapes), fixed)
    return export(module, inputs, secret_ones(module, inputs, fixed))


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
