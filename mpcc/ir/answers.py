"""What the client computes of the opened outputs, in float: a last softmax, the place of the largest logit.

    Answers((Answer(0, (Step("softmax", (-1,)),)), Answer(0, (Step("argmax", (-1, False)),))))
    answers.of([logits])          -> (probabilities, classes)

They travel as data, in the notes of a plan, and come from a closed table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mpcc.errors import PlanError

NOTE = "answers"
"""The entry of a plan's notes."""
MARK = "answer"
"""Metadata of a node that is spelt out in many: (name, arguments, name of the node that it is a function of)."""
MOST_STEPS = 64


class MANY:
    """Behind a type: any number of arguments of it."""


def _largest(x: Tensor, k: int, dim: int, largest: bool) -> Any:
    return torch.topk(x, k, dim, largest)


# Name -> (function of a tensor and of the arguments, the types of these).
TABLE: Mapping[str, tuple[Callable[..., Tensor], tuple[type, ...]]] = {
    "softmax": (lambda x, dim: x.double().softmax(dim).float(), (int,)),
    "log_softmax": (lambda x, dim: x.double().log_softmax(dim).float(), (int,)),
    "sigmoid": (torch.sigmoid, ()),
    "argmax": (lambda x, dim, keep: x.argmax(dim, keep), (int, bool)),
    "argmin": (lambda x, dim, keep: x.argmin(dim, keep), (int, bool)),
    "largest": (lambda x, k, dim, largest: _largest(x, k, dim, largest).values, (int, int, bool)),
    "places": (lambda x, k, dim, largest: _largest(x, k, dim, largest).indices, (int, int, bool)),
    "scale": (lambda x, factor: x * factor, (float,)),
    "reshape": (lambda x, *sizes: x.reshape(sizes), (int, MANY)),
    "permute": (lambda x, *order: x.permute(order), (int, MANY)),
}


@dataclass(frozen=True)
class Step:
    """One function of the table, and its arguments behind the tensor."""

    name: str
    arguments: tuple[Any, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        return TABLE[self.name][0](x, *self.arguments)


@dataclass(frozen=True)
class Answer:
    """One output of the model: steps on the output `source` of the program."""

    source: int
    steps: tuple[Step, ...] = ()

    def of(self, opened: Sequence[Tensor]) -> Tensor:
        found = opened[self.source]
        for step in self.steps:
            found = step(found)
        return found


@dataclass(frozen=True)
class Answers:
    """All outputs of the model. None of a program: its own outputs."""

    outputs: tuple[Answer, ...]

    def of(self, opened: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The model's outputs of one call. PlanError where they do not fit what was opened."""
        try:
            return tuple(answer.of(opened) for answer in self.outputs)
        except (RuntimeError, IndexError, ValueError) as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise PlanError(f"what the client computes of the outputs does not fit them: {why}", where=NOTE) from None

    @property
    def names(self) -> tuple[str, ...]:
        """The functions in it that are more than views, each once."""
        found = (step.name for answer in self.outputs for step in answer.steps)
        return tuple(dict.fromkeys(name for name in found if name not in ("reshape", "permute", "scale")))

    def document(self) -> list[Any]:
        """As JSON: for each output its source and its steps."""
        return [[one.source, *([step.name, *step.arguments] for step in one.steps)] for one in self.outputs]

    @staticmethod
    def read(document: Any, outputs: int) -> Answers:
        """The answers in a plan's notes, of a program with so many outputs. PlanError for anything that is not in the table."""
        if not isinstance(document, list) or not document:
            raise PlanError("it is no list of outputs", where=NOTE)
        return Answers(tuple(_answer(item, outputs) for item in document))


def _answer(item: Any, outputs: int) -> Answer:
    if not isinstance(item, list) or not item or type(item[0]) is not int or not 0 <= item[0] < outputs or len(item) > MOST_STEPS:
        raise PlanError("an output has no source among those of the program", where=NOTE)
    return Answer(item[0], tuple(_step(step) for step in item[1:]))


def _step(item: Any) -> Step:
    if not isinstance(item, list) or not item or not isinstance(item[0], str) or item[0] not in TABLE:
        raise PlanError(f"there is no step {str(item)[:60]}", where=NOTE, hint=f"Known are {', '.join(TABLE)}.")
    name, *arguments = item
    types = TABLE[name][1]
    wanted = types[:1] * len(arguments) if MANY in types else types
    if len(arguments) != len(wanted) or any(type(a) is not kind for a, kind in zip(arguments, wanted, strict=True)):
        raise PlanError(f"the step {name} has other arguments than {str(arguments)[:60]}", where=NOTE)
    return Step(name, tuple(arguments))
