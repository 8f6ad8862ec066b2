"""What the servers say of the model they serve (GET /v1/model), read without trust in who says it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpcc.errors import PartyError

from .answers import Answers
from .prefix import Given
from .preprocess import Preprocess
from .ranges import Ranges

FORMAT = "mpcc served model 2"
MOST_WORDS = 1 << 27
"""Of one request: a gigabyte."""
MOST_SCALE = 2.0**62
DIGEST = re.compile("[0-9a-f]{64}")
KEYS = "preprocess", "calibration", "answers", "prefix"
"""What a model may do without."""


@dataclass(frozen=True)
class Value:
    """An input or output: its shape, and the scale at which it is an integer modulo 2^64. `noise`: its standard deviation."""

    name: str
    shape: tuple[int, ...]
    scale: float
    noise: float = 0.0

    @property
    def words(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Model:
    """The model as one of its servers describes it. `inputs`: what is shared. `prefix`: what the client computes before that, if
    anything; then its inputs are what the client is given. `answers`: what it computes of the opened outputs, if anything."""

    role: str
    digest: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    preprocess: Preprocess | None
    ranges: Ranges | None
    answers: Answers | None
    prefix: Given | None
    document: Mapping[str, Any]

    @property
    def taken(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of what the client is given."""
        return tuple(one.shape for one in self.inputs) if self.prefix is None else tuple(shape for _, shape in self.prefix.inputs)

    @staticmethod
    def read(document: Any, where: str) -> Model:
        """PartyError, naming the server, for a document that is not one of this format."""
        try:
            if document["format"] != FORMAT:
                raise ValueError(f"format {str(document['format'])[:40]!r}, this client reads {FORMAT!r}")
            if not DIGEST.fullmatch(document["digest"]):
                raise ValueError("the digest is no SHA-256")
            inputs = tuple(_value(one, str(one["name"])) for one in document["inputs"])
            outputs = tuple(_value(one, f"output {number}") for number, one in enumerate(document["outputs"]))
            if not inputs or not outputs or sum(one.words for one in (*inputs, *outputs)) > MOST_WORDS:
                raise ValueError("no inputs, no outputs, or too large ones")
            preprocess, ranges, answers, prefix = (document.get(key) for key in KEYS)
            return Model(
                str(document["role"]),
                document["digest"],
                inputs,
                outputs,
                None if preprocess is None else Preprocess.read(preprocess),
                None if ranges is None else Ranges.read(ranges, len(inputs), len(outputs)),
                None if answers is None else Answers.read(answers, [one.shape for one in outputs]),
                None if prefix is None else Given.read(prefix),
                document,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            what = f"the model's description is damaged, or this is no server of mpcc: {error}"
            raise PartyError(what, where=where) from None


def _value(found: Mapping[str, Any], name: str) -> Value:
    shape, scale, noise = tuple(found["shape"]), found["scale"], found.get("noise", 0.0)
    if not all(type(size) is int and 0 < size <= MOST_WORDS for size in shape) or len(shape) > 16:
        raise ValueError(f"a shape of {name[:40]!r}")
    if not 0 < abs(float(scale)) <= MOST_SCALE or not 0 <= float(noise) < math.inf:
        raise ValueError(f"the scale of {name[:40]!r}")
    return Value(name[:200], shape, float(scale), float(noise))
