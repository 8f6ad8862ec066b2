"""A circuit as an executable of SPU: interpreted over jax values, which SPU's compiler takes down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpcc.errors import UnsupportedOperator
from mpcc.ir.circuit import Circuit, with_values

Function = Callable[..., Any]


def compiled(circuit: Circuit) -> Any:
    """Every input and every weight is secret; inputs are called in0, in1 ... in the order of the circuit's values."""
    given = [*circuit.inputs, *circuit.weights]
    return compiled_function(function_of(circuit), [np.zeros(one.shape, dtype=np.float32) for one in given])


def compiled_function(function: Function, values: Sequence[Any]) -> Any:
    """An executable of SPU: a function over jax values, of secrets in0, in1 ... of the shapes and types of `values`."""
    import spu.libspu as libspu
    from spu.utils import frontend

    names = [f"in{i}" for i in range(len(values))]
    secret = [libspu.Visibility.VIS_SECRET] * len(values)
    executable, _ = frontend.compile(
        frontend.Kind.JAX, function, values, {}, names, secret, lambda flat: [f"out{i}" for i in range(len(flat))]
    )
    return executable


def configuration(protocol: str, fraction_bits: int) -> Any:
    """Of SPU's runtime: a ring of 64 bits, and counters of every operation in its log."""
    import spu.libspu as libspu

    made = libspu.RuntimeConfig(
        protocol=getattr(libspu.ProtocolKind, protocol.upper()),
        field=libspu.FieldType.FM64,
        fxp_fraction_bits=fraction_bits,
    )
    made.enable_pphlo_profile = True
    return made


def function_of(circuit: Circuit) -> Function:
    """A function of inputs and weights over jax values; a tuple of the outputs."""
    from .operators import FUNCTIONS

    missing = sorted({step.operation for step in circuit.steps if step.operation not in FUNCTIONS})
    if missing:
        raise UnsupportedOperator(f"SPU has no form of {', '.join(missing)}")

    def function(*given: Any) -> tuple[Any, ...]:
        values = list(given)
        for step in circuit.steps:
            args, named = with_values(step.args, values), with_values(step.named, values)
            values.append(FUNCTIONS[step.operation](*args, **named))
        return tuple(values[one.value] for one in circuit.outputs)

    return function
