"""An mpc-level graph as data: what the parties of another engine agree on, each of them without the weights.

    {"format": "mpcc circuit 1", "protocol": "aby3", "fraction_bits": 18,
     "inputs": [{"name": "x", "shape": [1, 3, 32, 32], "scale": 2.0}], "weights": [{"name": "head.weight", "shape": [10, 64]}],
     "nodes": [["mpc.linear", [{"value": 0}, {"value": 1}, null], {}]], "outputs": [{"value": 2, "scale": 0.5}]}

Values are numbered: inputs, weights, then nodes. An input is divided by its scale before it is shared, an opened output is
multiplied by its own. Reading a circuit needs no torch, so that a party's interpreter need not have it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mpcc.errors import BundleError

from .strict_json import parsed

FORMAT = "mpcc circuit 1"
MOST_NODES, MOST_DIMS, MOST_ELEMENTS = 1 << 16, 16, 1 << 30
MOST_ENTRIES = 1 << 20
LONGEST_NAME = 1000
FRACTION_BITS = range(8, 29)
"""Of a ring of 64 bits: below 8 nothing is precise, and two factors of 29 bits leave 5 for the magnitude."""
OPERATIONS = frozenset(
    f"mpc.{name}"
    for name in (
        "add", "sub", "scale", "mul", "square", "matmul", "linear", "conv", "sum", "polynomial", "less", "select", "gather",
        "apply_mask", "scale_rows",
    )
) | frozenset(
    f"aten.{name}"
    for name in (
        "reshape.default", "permute.default", "expand.default", "slice.Tensor", "select.int", "cat.default",
        "constant_pad_nd.default", "roll.default", "flip.default",
    )
)  # fmt: skip
"""What stands in circuits: the primitives but `curve`, whose gates need a dealer of their own, and views."""


@dataclass(frozen=True)
class Ref:
    """The value of that number, as an argument."""

    value: int


@dataclass(frozen=True)
class Given:
    """A tensor that a party brings along: the client's input or the server's weight. `scale`: see above."""

    name: str
    shape: tuple[int, ...]
    scale: float = 1.0


@dataclass(frozen=True)
class Step:
    """One operation on values before it; arguments are `Ref`, numbers, text, None, and tuples of them."""

    operation: str
    args: tuple[Any, ...]
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """An output: the value of that number, times `scale`."""

    value: int
    scale: float


@dataclass(frozen=True)
class Circuit:
    """What is computed. `protocol`: the one it was optimised for, by its name in mpcc."""

    protocol: str
    fraction_bits: int
    inputs: tuple[Given, ...]
    weights: tuple[Given, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Opened, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the text: parties compare it before they start."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Deterministic JSON text, a line an operation."""
        lines = ",\n  ".join(json.dumps([step.operation, _written(step.args), _written(step.named)]) for step in self.steps)
        head = {"format": FORMAT, "protocol": self.protocol, "fraction_bits": self.fraction_bits}
        head |= {"inputs": [asdict(one) for one in self.inputs], "weights": [asdict(one) for one in self.weights]}
        head |= {"outputs": [asdict(one) for one in self.outputs]}
        return f'{json.dumps(head)[:-1]},\n "nodes": [\n  {lines}\n]}}\n'

    @staticmethod
    def from_json(text: str | bytes, where: str) -> Circuit:
        """The circuit of a text that somebody else wrote. BundleError for anything else."""
        try:
            found = parsed(text)
            if set(found) != {"format", "protocol", "fraction_bits", "inputs", "weights", "nodes", "outputs"}:
                raise ValueError(f"the fields are {', '.join(sorted(map(str, found)))}")
            if found["format"] != FORMAT:
                raise ValueError(f"unsupported format {found['format']!r}; this mpcc reads {FORMAT!r}")
            if found["fraction_bits"] not in FRACTION_BITS:
                raise ValueError(f"{found['fraction_bits']!r} is not a number of fraction bits")
            inputs, weights = (tuple(map(_given, _list(found[name], MOST_NODES))) for name in ("inputs", "weights"))
            start = len(inputs) + len(weights)
            steps = tuple(_step(one, start + i) for i, one in enumerate(_list(found["nodes"], MOST_NODES)))
            end = start + len(steps)
            opened = _list(found["outputs"], MOST_NODES)
            outputs = tuple(Opened(_place(one["value"], end), _scale(one["scale"])) for one in opened)
            return Circuit(_name(found["protocol"]), found["fraction_bits"], inputs, weights, steps, outputs)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"damaged: {error}", where=where, hint="Create the bundle again with `mpcc optimize`.") from None


def with_values(argument: Any, values: Sequence[Any]) -> Any:
    """An argument, or named arguments, of a step with a value in the place of each `Ref`."""
    if isinstance(argument, Ref):
        return values[argument.value]
    if isinstance(argument, Mapping):
        return {name: with_values(one, values) for name, one in argument.items()}
    return tuple(with_values(one, values) for one in argument) if isinstance(argument, tuple) else argument


def _written(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"value": value.value}
    if isinstance(value, Mapping):
        return {name: _written(one) for name, one in sorted(value.items())}
    return [_written(one) for one in value] if isinstance(value, tuple) else value


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"not a list of at most {most} entries")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME or not value.isprintable():
        raise ValueError("a name is not printable text")
    return value


def _scale(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 2.0**-256 <= value <= 2.0**256:
        raise ValueError(f"{str(value)[:40]} is not a scale")
    return float(value)


def _given(found: Mapping[str, Any]) -> Given:
    shape = tuple(_list(found["shape"], MOST_DIMS))
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"{str(list(shape))[:60]} is not a shape")
    return Given(_name(found["name"]), shape, _scale(found["scale"]))


def _place(value: Any, end: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < end:
        raise ValueError(f"{str(value)[:40]} is not the number of a value computed before")
    return value


def _step(found: Any, number: int) -> Step:
    if not isinstance(found, list) or len(found) != 3 or found[0] not in OPERATIONS or not isinstance(found[2], dict):
        raise ValueError(f"value {number} is of no operation of circuits")
    args = tuple(_argument(one, number) for one in _list(found[1], MOST_DIMS))
    return Step(found[0], args, {_name(name): _argument(one, number) for name, one in found[2].items()})


def _argument(value: Any, number: int) -> Any:
    if isinstance(value, dict):
        if set(value) != {"value"}:
            raise ValueError(f"an argument of value {number} is no reference")
        return Ref(_place(value["value"], number))
    if isinstance(value, list):
        return tuple(_argument(one, number) for one in _list(value, MOST_ENTRIES))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"an argument of value {number} is of no known kind")
