"""What the client computes of the opened outputs: a last softmax, the place of the largest logit. The table of
`mpcc.ir.answers`, in numpy; a test holds one against the other.

    Answers.read([[0, ["softmax", -1]], [0, ["argmax", -1, False]]], [(1, 10)]).of([logits])      -> [probabilities, classes]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Step = tuple[str, tuple[Any, ...]]
MOST_OUTPUTS = MOST_STEPS = 64
PLACES = ("argmax", "argmin", "places")
"""Steps whose result are places: classes, not scores."""


def _softmax(x: Floats, dim: int) -> Floats:
    powers: Floats = np.exp(x - x.max(dim, keepdims=True))
    shares: Floats = powers / powers.sum(dim, keepdims=True)
    return shares


def _log_softmax(x: Floats, dim: int) -> Floats:
    below: Floats = x - x.max(dim, keepdims=True)
    logs: Floats = below - np.log(np.exp(below).sum(dim, keepdims=True))
    return logs


def _places(x: Floats, k: int, dim: int, largest: bool) -> Floats:
    if not 0 < k <= x.shape[dim]:
        raise ValueError(f"{k} of {x.shape[dim]}")
    return np.argsort(-x if largest else x, dim, kind="stable").take(range(k), dim).astype(np.float64)


def _largest(x: Floats, k: int, dim: int, largest: bool) -> Floats:
    return np.take_along_axis(x, _places(x, k, dim, largest).astype(np.int64), dim)


# Name -> (function of an array and of the arguments, the types of these; more than one function stands for any number).
TABLE: Mapping[str, tuple[Callable[..., Any], tuple[type, ...] | None]] = {
    "softmax": (_softmax, (int,)),
    "log_softmax": (_log_softmax, (int,)),
    "sigmoid": (lambda x: (1 + np.tanh(x / 2)) / 2, ()),
    "argmax": (lambda x, dim, keep: x.argmax(dim, keepdims=keep).astype(np.float64), (int, bool)),
    "argmin": (lambda x, dim, keep: x.argmin(dim, keepdims=keep).astype(np.float64), (int, bool)),
    "largest": (_largest, (int, int, bool)),
    "places": (_places, (int, int, bool)),
    "scale": (lambda x, factor: x * factor, (float,)),
    "reshape": (lambda x, *sizes: x.reshape(sizes), None),
    "permute": (lambda x, *order: x.transpose(order), None),
}
"""None: any number of whole numbers."""


@dataclass(frozen=True)
class Answers:
    """For each output of the model: the opened output that it is a function of, and the steps of that function."""

    outputs: tuple[tuple[int, tuple[Step, ...]], ...]

    @staticmethod
    def read(document: Any, shapes: Sequence[tuple[int, ...]]) -> Answers:
        """ValueError for anything that is not in the table, or does not fit outputs of these shapes."""
        if not isinstance(document, list) or not 0 < len(document) <= MOST_OUTPUTS:
            raise ValueError("what the client computes of the outputs")
        found = Answers(tuple(_output(one, len(shapes)) for one in document))
        found.of([np.zeros(shape) for shape in shapes])
        return found

    def of(self, opened: Sequence[Floats]) -> tuple[Floats, ...]:
        """The model's outputs of one call."""
        return tuple(_applied(opened[source], steps) for source, steps in self.outputs)

    def top(self, opened: Sequence[Floats]) -> int:
        """The class that the first output names first."""
        source, steps = self.outputs[0]
        names = [name for name, _ in steps]
        found = _applied(opened[source], steps).reshape(-1)
        if any(name in PLACES for name in names):
            return int(found[0])
        return int(np.argmax(opened[source] if "largest" in names else found))


def _applied(x: Floats, steps: tuple[Step, ...]) -> Floats:
    for name, arguments in steps:
        x = np.asarray(TABLE[name][0](x, *arguments), dtype=np.float64)
    return x


def _output(item: Any, outputs: int) -> tuple[int, tuple[Step, ...]]:
    if not isinstance(item, list) or not item or type(item[0]) is not int or not 0 <= item[0] < outputs or len(item) > MOST_STEPS:
        raise ValueError("what the client computes of the outputs")
    return item[0], tuple(_step(step) for step in item[1:])


def _step(item: Any) -> Step:
    if not isinstance(item, list) or not item or not isinstance(item[0], str) or item[0] not in TABLE:
        raise ValueError(f"a step {str(item)[:60]} on the outputs")
    name, *arguments = item
    types = TABLE[name][1]
    wanted = (int,) * len(arguments) if types is None else types
    good = len(arguments) == len(wanted) and all(type(one) is kind for one, kind in zip(arguments, wanted, strict=True))
    if not good or not all(math.isfinite(one) for one in arguments):
        raise ValueError(f"the step {name} with {str(arguments)[:60]}")
    return name, tuple(arguments)
