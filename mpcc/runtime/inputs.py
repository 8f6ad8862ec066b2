"""What the client checks of its own input before anything is sent, and what it holds the answer against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from mpcc.ir.info import input_of

if TYPE_CHECKING:
    from mpcc.approximate import Plan
    from mpcc.calibration import Guard
    from mpcc.program import Program

UNKNOWN = "the plan has no statistics of its calibration, so neither inputs nor outputs were compared with them"


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


def unlike_inputs(guard: Guard | None, calls: Sequence[Sequence[Tensor]]) -> tuple[str, ...]:
    """What is unlike calibration in the inputs of these calls, or that nobody can tell."""
    return (UNKNOWN,) if guard is None else guard.inputs_outside(calls)
