"""What the client checks of its own input before anything is sent, and what it holds the answer against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mpcc.errors import ShapeError
from mpcc.ir.answers import NOTE as ANSWERS
from mpcc.ir.answers import Answers
from mpcc.ir.info import input_of

if TYPE_CHECKING:
    from mpcc.approximate import Plan
    from mpcc.calibration import Guard
    from mpcc.program import Program

UNKNOWN = "the plan has no statistics of its calibration, so neither inputs nor outputs were compared with them"


def tensors(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The same inputs, with numpy arrays as float32 tensors; anything else is left as it is. UsageError for an array of no
    numbers."""
    from mpcc.calibration.arrays import as_input

    named = ((f"input {number}", value) for number, value in enumerate(inputs))
    return tuple(as_input(value, name) if isinstance(value, np.ndarray) else value for name, value in named)


def check_shapes(inputs: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> None:
    """ShapeError where the inputs of a call have other shapes than these."""
    if len(inputs) != len(shapes):
        raise ShapeError(f"{len(inputs)} inputs for a program of {len(shapes)}")
    for value, shape in zip(inputs, shapes, strict=True):
        if tuple(value.shape) != shape:
            raise ShapeError(
                f"an input of shape {tuple(value.shape)} for a program of {shape}",
                hint="Compile the model for this shape, or reshape the input.",
            )


def cut_calls(inputs: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """Each input is cut by its own static first dimension; one for a single call is the same in every call.

    ShapeError where the inputs are of different numbers of calls.
    """
    if len(inputs) != len(shapes) or any(x.dim() != len(shape) for x, shape in zip(inputs, shapes, strict=True)):
        check_shapes(inputs, shapes)  # which says what is wrong
    sizes = [shape[0] if shape else 1 for shape in shapes]
    counts = [-(-x.shape[0] // max(size, 1)) if x.dim() else 1 for x, size in zip(inputs, sizes, strict=True)]
    total = max(counts, default=1)
    if total == 0 or any(count not in (1, total) for count in counts):
        seen = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise ShapeError(
            f"inputs of shapes {seen} for a program of {', '.join(map(str, shapes))}",
            hint="Give every input for the same number of calls, one after another in its first dimension.",
        )
    for call in range(total):
        yield tuple(
            x if count == 1 else x[call * size : (call + 1) * size] for x, size, count in zip(inputs, sizes, counts, strict=True)
        )


def check_values(program: Program, inputs: Sequence[Tensor]) -> None:
    """RangeError, naming the input, for numbers that are infinite, NaN, or larger than the ring holds."""
    from mpcc.calibration.arrays import checked

    for node, value in zip(program.inputs(), inputs, strict=False):  # their number is judged with the shapes
        known = input_of(node)
        assert known is not None
        checked(value, f"input {known.name}")


def guard_of(plan: Plan, program: Program) -> Guard | None:
    """The statistics of calibration that travel with a plan; None where there are none. PlanError where they are damaged."""
    from mpcc.calibration.guard import NOTE, Guard

    found = plan.notes.get(NOTE)
    return None if found is None else Guard.read(found, len(program.inputs()), len(program.outputs))


def answers_of(plan: Plan, program: Program) -> Answers | None:
    """What the client computes of the opened outputs; None where they are the model's. PlanError where it is damaged."""
    found = plan.notes.get(ANSWERS)
    return None if found is None else Answers.read(found, len(program.outputs))


def unlike_inputs(guard: Guard | None, calls: Sequence[Sequence[Tensor]]) -> tuple[str, ...]:
    """What is unlike calibration in the inputs of these calls, or that nobody can tell."""
    return (UNKNOWN,) if guard is None else guard.inputs_outside(calls)
