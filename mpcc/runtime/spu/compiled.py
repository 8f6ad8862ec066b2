"""A circuit as an executable of SPU: interpreted over jax values, which SPU's compiler takes down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mpcc.errors import UnsupportedOperator
from mpcc.ir.circuit import Circuit, Ref

Function = Callable[..., Any]


def compiled(circuit: Circuit) -> Any:
    """Every input and every weight is secret; inputs are called in0, in1 ... in the order of the circuit's values."""
    import spu.libspu as libspu
    from spu.utils import frontend

    given = [*circuit.inputs, *circuit.weights]
    values = [np.zeros(one.shape, dtype=np.float32) for one in given]
    names = [f"in{i}" for i in range(len(given))]
    secret = [libspu.Visibility.VIS_SECRET] * len(given)
    executable, _ = frontend.compile(
        frontend.Kind.JAX, function_of(circuit), values, {}, names, secret, lambda flat: [f"out{i}" for i in range(len(flat))]
    )
    return executable


def function_of(circuit: Circuit) -> Function:
    """A function of inputs and weights over jax values; a tuple of the outputs."""
    from .operators import FUNCTIONS

    missing = sorted({step.operation for step in circuit.steps if step.operation not in FUNCTIONS})
    if missing:
        raise UnsupportedOperator(f"SPU has no form of {', '.join(missing)}")

    def function(*given: Any) -> tuple[Any, ...]:
        values = list(given)
        for step in circuit.steps:
            args, named = _with_values(step.args, values), _with_values(step.named, values)
            values.append(FUNCTIONS[step.operation](*args, **named))
        return tuple(values[one.value] for one in circuit.outputs)

    return function


def _with_values(one: Any, values: list[Any]) -> Any:
    if isinstance(one, Ref):
        return values[one.value]
    if isinstance(one, Mapping):
        return {name: _with_values(inner, values) for name, inner in one.items()}
    return tuple(_with_values(inner, values) for inner in one) if isinstance(one, tuple) else one
