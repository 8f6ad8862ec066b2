"""Inputs that are constants of this compilation: an attention mask, a class embedding, a time step.

    capture(model, example_inputs, fixed={"attention_mask": 1, "text": features})

A number stands for a tensor of the input's shape. What is fixed is no input any more; it may decide which way the model goes.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch

from mpcc.errors import ShapeError, UsageError

from .examples import Inputs

Fixed = Mapping[str, torch.Tensor | float | int | bool]


def value_of(name: str, fixed: Fixed, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """The value of an input of that shape and type. ShapeError where it has another shape."""
    value = fixed[name]
    if not isinstance(value, torch.Tensor):
        if not dtype.is_floating_point and not float(value).is_integer():
            raise UsageError(f"it holds whole numbers, and {value} is none", where=f"input {name}")
        return torch.full(tuple(shape), value, dtype=dtype)
    if tuple(value.shape) != tuple(shape):
        raise ShapeError(f"it is fixed to a value of shape {tuple(value.shape)}, not {tuple(shape)}", where=f"input {name}")
    return value.detach().to("cpu", dtype)


def check_names(fixed: Fixed, inputs: Collection[str]) -> None:
    """UsageError for a name that is none of the model's inputs, and where nothing would be left."""
    unknown = [name for name in fixed if name not in inputs]
    if unknown:
        raise UsageError(f"the model has no input {unknown[0]!r}", where="fixed", hint=f"Its inputs: {', '.join(inputs)}.")
    if fixed and set(inputs) <= set(fixed):
        raise UsageError("every input is fixed, so that nothing is private", where="fixed")


def with_fixed(module: torch.nn.Module, inputs: Inputs, fixed: Fixed) -> Inputs:
    """The inputs with the fixed values in their places; those that the examples leave out come in as keywords."""
    if not fixed:
        return inputs
    places = {name: place for place, name in enumerate(_names(module, len(inputs.positional)))}
    positional, keyword = list(inputs.positional), dict(inputs.keyword)
    for name, value in fixed.items():
        place = places.get(name)
        if place is None and name not in keyword and name not in _known(module):
            raise UsageError(f"the model has no input {name!r}", where="fixed", hint=f"Its inputs: {', '.join(_known(module))}.")
        given = positional[place] if place is not None else keyword.get(name)
        if isinstance(given, torch.Tensor):
            value = value_of(name, fixed, given.shape, given.dtype)
        elif not isinstance(value, torch.Tensor):
            hint = "Give an example of it, or fix it to a tensor."
            raise UsageError(f"the shape of the input {name} is not known", where="fixed", hint=hint)
        if place is not None:
            positional[place] = value
        else:
            keyword[name] = value
    return Inputs(tuple(positional), keyword)


def secret_ones(module: torch.nn.Module, inputs: Inputs, fixed: Fixed) -> Inputs:
    """The inputs without those that are fixed."""
    names = _names(module, len(inputs.positional))
    kept = tuple(value for name, value in zip(names, inputs.positional, strict=True) if name not in fixed)
    return Inputs(kept, {name: value for name, value in inputs.keyword.items() if name not in fixed})


def _known(module: torch.nn.Module) -> list[str]:
    """The names of all inputs, as far as the model's signature has them."""
    try:
        parameters: Iterable[inspect.Parameter] = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [item.name for item in parameters if item.kind not in kinds]


def _names(module: torch.nn.Module, count: int) -> list[str]:
    """The names of the first positional inputs."""
    names = _known(module)[:count]
    return [*names, *(f"input {place}" for place in range(len(names), count))]
