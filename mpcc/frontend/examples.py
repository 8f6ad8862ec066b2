"""Example inputs for tracing: those given, else what a graph's placeholders say, else shapes, else a clear request."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from mpcc.errors import CaptureError, ShapeError

Shapes = Mapping[str, Sequence[int]] | Sequence[Sequence[int]] | Sequence[int]


@dataclass(frozen=True)
class Inputs:
    """What the model is called with while it is traced."""

    positional: tuple[Any, ...]
    keyword: dict[str, Any] = field(default_factory=dict)


def resolve_inputs(module: torch.nn.Module, example_inputs: Any, input_shapes: Shapes | None) -> Inputs:
    """The inputs to trace `module` with; CaptureError that shows the call to make if nothing says what they are."""
    if example_inputs is not None:
        return _single(_given(example_inputs))
    if input_shapes is not None:
        return _from_shapes(module, input_shapes)
    if isinstance(module, fx.GraphModule):
        return _from_placeholders(module)
    raise _missing(module, input_names(module)[:1] or ["x"])


def input_names(module: torch.nn.Module) -> list[str]:
    """The names of the inputs without a default."""
    if isinstance(module, fx.GraphModule):
        return [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [item.name for item in parameters if item.kind in kinds and item.default is inspect.Parameter.empty]


def _given(example: Any) -> Inputs:
    if isinstance(example, Mapping):
        return Inputs((), dict(example))
    if isinstance(example, (tuple, list)):
        return Inputs(tuple(example))
    return Inputs((example,))


def _single(inputs: Inputs) -> Inputs:
    def convert(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.detach().to("cpu", torch.float32) if value.is_floating_point() else value.to("cpu")

    tree: Any = torch.utils._pytree.tree_map(convert, (inputs.positional, inputs.keyword))
    return Inputs(*tree)


def _from_shapes(module: torch.nn.Module, shapes: Shapes) -> Inputs:
    if isinstance(shapes, Mapping):
        return Inputs((), {name: torch.zeros(_checked(shape)) for name, shape in shapes.items()})
    if shapes and all(isinstance(size, int) for size in shapes):
        return Inputs((torch.zeros(_checked(shapes)),))
    return Inputs(tuple(torch.zeros(_checked(shape)) for shape in shapes))


def _checked(shape: Any) -> list[int]:
    sizes = list(shape) if isinstance(shape, Sequence) else [shape]
    if any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ShapeError(f"{shape!r} is not a shape: every size is a whole number of at least 1")
    return sizes


def _from_placeholders(module: fx.GraphModule) -> Inputs:
    """Positional inputs from `meta["val"]`, `["example_value"]` or `["tensor_meta"]`."""
    found, missing = [], []
    for node in module.graph.nodes:
        if node.op != "placeholder":
            continue
        value = _described(node)
        if value is None and not node.args:
            missing.append(str(node.target))
        elif value is not None:
            found.append(value)
    if missing:
        raise _missing(module, missing)
    return Inputs(tuple(found))


def _described(node: fx.Node) -> Any:
    for key in ("val", "example_value", "tensor_meta"):
        value = node.meta.get(key)
        if value is None or not hasattr(value, "shape"):
            continue
        shape = value.shape
        if any(not isinstance(size, int) for size in shape):
            raise ShapeError(
                f"the shape {tuple(shape)} is dynamic",
                where=f"input {node.name}",
                hint=f"Give static shapes: capture(model, input_shapes={{{str(node.target)!r}: (1, 3, 224, 224)}})",
            )
        dtype = value.dtype if not value.dtype.is_floating_point else torch.float32
        return torch.zeros(tuple(shape), dtype=dtype)
    return None


def _missing(module: torch.nn.Module, names: Sequence[str]) -> CaptureError:
    shapes = ", ".join(f"{name!r}: (1, 3, 224, 224)" for name in names)
    flags = " --input-shape ".join(f"{name}=1,3,224,224" for name in names)
    which = f"input {names[0]}" if len(names) == 1 else "inputs " + ", ".join(names)
    return CaptureError(
        f"the shape of {which} of {type(module).__name__} is not known",
        hint="Call capture(model, torch.randn(1, 3, 224, 224)), or"
        f" capture(model, input_shapes={{{shapes}}}), with your model's sizes; on the command line --input-shape {flags}.",
    )
