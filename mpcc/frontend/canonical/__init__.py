"""Canonicalisation: any graph of ATen operators -> the same function in the operators of the nn level.

One walk over the graph: what depends on no input is computed at once, every other operator goes through its rule
(`rules/`), decomposed non-linear functions are raised (`mpcc.frontend.raising`), batch norms are folded, sites named.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from mpcc.errors import CaptureError, ShapeError, UnsupportedOperator
from mpcc.ir.names import check_names
from mpcc.ir.nn import describe, name_sites, verify

from ..fixed import Fixed, value_of
from ..fixed import check_names as check_fixed
from ..raising import raise_patterns
from .batch_norm import fold_batch_norms
from .builder import Builder, has_complex
from .number_kinds import MASKED, mark
from .rules import RULES
from .rules.complexes import rewrite_complex
from .values import Constant
from .walk import Walk, constant_of, refuse_foreign, tensors
from .whole_numbers import becomes_float

__all__ = ["canonicalise", "canonicalise_program"]

NOTHING: Fixed = {}


def canonicalise(
    graph_module: fx.GraphModule, guard: AbstractContextManager[None] | None = None, fixed: Fixed = NOTHING
) -> fx.GraphModule:
    """A new nn-level graph that computes what `graph_module` computes, in float32, with copies of its parameters.

    Its nodes are ATen overloads with `meta["val"]` on the placeholders (what `torch.export` gives after `.module()`);
    layers come from `meta["layer"]` or `meta["nn_module_stack"]`. Raises UnsupportedOperator with all operators that
    have no canonical form, ShapeError for dynamic shapes, CaptureError for NaN weights. All that the graph computes is computed
    inside of `guard` (of `Limits`). `fixed`: values of inputs that are constants.
    """
    builder = Builder(RULES, rewrite_complex)
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    check_fixed(fixed, [str(node.target) for node in placeholders])
    inputs = [_input(builder, node, fixed) for node in placeholders]
    with guard or nullcontext():
        results = Walk(builder, graph_module).run(inputs)
    return _finished(builder, results)


def canonicalise_program(
    program: ExportedProgram, guard: AbstractContextManager[None] | None = None, fixed: Fixed = NOTHING
) -> fx.GraphModule:
    """As `canonicalise`, for an exported program, whose parameters are inputs of its graph."""
    builder = Builder(RULES, rewrite_complex)
    specs = program.graph_signature.input_specs
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    own = [node.name for node, spec in zip(placeholders, specs, strict=True) if spec.kind is InputKind.USER_INPUT]
    check_fixed(fixed, own)
    inputs = []
    for node, spec in zip(placeholders, specs, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            inputs.append(_input(builder, node, fixed))
        elif spec.target is None:
            raise CaptureError("the program has effects beside its answers, which a private one has not", where=node.name)
        else:
            stored = program.state_dict if spec.target in program.state_dict else program.constants
            inputs.append(constant_of(stored[spec.target], spec.target))
    with guard or nullcontext():
        results = Walk(builder, program.graph_module).run(inputs)
    wanted = [spec.kind is OutputKind.USER_OUTPUT for spec in program.graph_signature.output_specs]
    return _finished(builder, [result for result, kept in zip(results, wanted, strict=True) if kept])


def _finished(builder: Builder, results: Any) -> fx.GraphModule:
    builder.layer = ""
    if has_complex(results):
        raise CaptureError("an output of the model is complex", hint="Return torch.view_as_real(output).")
    if any(isinstance(item, Constant) and item.assumed for item in tensors(results)):
        raise UnsupportedOperator("an output says whether values are NaN or infinite, which values in fixed point never are")
    nodes = [builder.node(value) for value in tensors(results)]
    builder.graph.output(nodes[0] if len(nodes) == 1 else tuple(nodes))
    return finish(builder.root, builder.graph)


def finish(root: torch.nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """The last steps: fold, raise, drop what nothing reads, name the sites, check every rule of the level."""
    graph.eliminate_dead_code()
    fold_batch_norms(root, graph)
    raise_patterns(graph)
    graph.eliminate_dead_code()
    refuse_foreign(graph)
    _refuse_nan(graph)
    _refuse_infinity(graph)
    name_sites(graph)
    check_names(graph)
    made = fx.GraphModule(root, graph, "Captured")
    made.eval()
    verify(made)
    return made


def _refuse_nan(graph: fx.Graph) -> None:
    for node in graph.nodes:
        if any(isinstance(item, float) and math.isnan(item) for item in node.args):
            raise CaptureError("it is computed with a constant that is NaN", where=describe(node))


def _refuse_infinity(graph: fx.Graph) -> None:
    """What a mask makes minus infinity must come to a softmax, behind which the number that stands for it is gone."""
    for node in graph.nodes:
        ahead, seen = [node] if node.meta.get(MASKED) else [], set[fx.Node]()
        while ahead:
            one = ahead.pop()
            if one.op == "output":
                what = "a secret condition chooses minus infinity, which comes to an output and not to a softmax"
                raise UnsupportedOperator(what, where=describe(node), hint="Fixed point has no infinity: choose a finite number.")
            new = [user for user in one.users if user not in seen and user.target is not torch.ops.aten.softmax.int]
            seen.update(new)
            ahead += new


def _input(builder: Builder, node: fx.Node, fixed: Fixed) -> Any:
    """A placeholder. Truth values are 0 and 1; whole numbers that the model only turns into floats (bytes of an image), or
    compares, are floats from the start."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return value
    if any(not isinstance(size, int) for size in value.shape):
        raise ShapeError(
            f"the shape {tuple(value.shape)} is dynamic",
            where=f"input {node.name}",
            hint=f"Give static shapes: capture(model, input_shapes={{{node.name!r}: (1, 3, 224, 224)}})",
        )
    if node.name in fixed:
        return Constant(value_of(node.name, fixed, value.shape, value.dtype))
    floats = value.dtype.is_floating_point or value.dtype == torch.bool or becomes_float(node)
    dtype = torch.float32 if floats else value.dtype
    made = builder.placeholder(node.name, torch.empty(value.shape, dtype=dtype, device="meta"))
    mark(made, value)
    return made
