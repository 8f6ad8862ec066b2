"""A circuit as an executable of SPU: interpreted over jax values, which SPU's compiler takes down.

What a circuit multiplies by is handed over as a public input, not as a constant. SPU's compiler moves constants from one product
to another, past sums and onto the smaller operand; then what runs would be neither what was priced nor what was given its scales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mpcc.errors import UnsupportedOperator
from mpcc.ir.circuit import Circuit, Step, with_values

Function = Callable[..., Any]
FACTORS = {"mpc.scale": 1, "mpc.polynomial": 1, "mpc.scale_rows": 2}
"""The operations that multiply by public numbers, and the place of these among their arguments."""


def compiled(circuit: Circuit) -> Any:
    """Inputs and weights are secret: in0, in1 ... in the order of the circuit's values. `numbers` after them are public."""
    given = [np.zeros(one.shape, dtype=np.float32) for one in (*circuit.inputs, *circuit.weights)]
    return compiled_function(function_of(circuit), [*given, numbers(circuit)], public=1)


def compiled_function(function: Function, values: Sequence[Any], public: int = 0) -> Any:
    """An executable of SPU: a function over jax values, of in0, in1 ... of the shapes and types of `values`. All are secret but
    the last `public` of them."""
    import spu.libspu as libspu
    from spu.utils import frontend

    names = [f"in{i}" for i in range(len(values))]
    seen = [libspu.Visibility.VIS_SECRET] * (len(values) - public) + [libspu.Visibility.VIS_PUBLIC] * public
    executable, _ = frontend.compile(
        frontend.Kind.JAX, function, values, {}, names, seen, lambda flat: [f"out{i}" for i in range(len(flat))]
    )
    return executable


def numbers(circuit: Circuit) -> np.ndarray[Any, Any]:
    """The public numbers that a circuit multiplies by, in the order of its steps; float32, at least one."""
    found = [number for step in circuit.steps for number in _factors(step)]
    return np.array(found or [1.0], dtype=np.float32)


def _factors(step: Step) -> tuple[float, ...]:
    """Nothing for a change of sign, which is no product."""
    if step.operation not in FACTORS:
        return ()
    found = step.args[FACTORS[step.operation]]
    many = found if isinstance(found, tuple) else (found,)
    return () if many == (-1.0,) else many


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
    """A function of inputs, weights and `numbers` over jax values; a tuple of the outputs."""
    from .operators import FUNCTIONS, entries

    missing = sorted({step.operation for step in circuit.steps if step.operation not in FUNCTIONS})
    if missing:
        raise UnsupportedOperator(f"SPU has no form of {', '.join(missing)}")

    def function(*given: Any) -> tuple[Any, ...]:
        values, public = list(given[:-1]), entries(given[-1])
        for step in circuit.steps:
            args, named = with_values(_with_inputs(step, public), values), with_values(step.named, values)
            values.append(FUNCTIONS[step.operation](*args, **named))
        return tuple(values[one.value] for one in circuit.outputs)

    return function


def _with_inputs(step: Step, public: Iterator[Any]) -> tuple[Any, ...]:
    """The arguments of a step with the next public inputs in the place of its factors."""
    taken = tuple(next(public) for _ in _factors(step))
    if not taken:
        return step.args
    place = FACTORS[step.operation]
    return (*step.args[:place], taken if isinstance(step.args[place], tuple) else taken[0], *step.args[place + 1 :])
