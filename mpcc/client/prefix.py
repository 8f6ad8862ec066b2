"""The public part of a model, which the client computes in float before it shares anything: an ONNX file, run by onnxruntime.

    given = Given.read(document["prefix"])                what the model's document says of it
    part = Prefix(given, body)                            the file: fetched from the server, or the client's own copy
    part([image])                                         the values that are shared
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcc.errors import MissingDependency, PartyError, SecurityError, ShapeError, UsageError

Floats = NDArray[np.float64]
MOST_BYTES = 1 << 31
"""An ONNX file of one piece is smaller (protobuf's limit)."""
MOST_VALUES = 1 << 27
SHA256 = re.compile("[0-9a-f]{64}")
NOWHERE = "/nonexistent"
"""Where a file that came from a server may look for weights outside itself."""


@dataclass(frozen=True)
class Given:
    """What the client gives the public part: name and shape of each input; and which file it is."""

    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    bytes: int
    sha256: str

    @staticmethod
    def read(document: Any) -> Given:
        """ValueError, KeyError, TypeError for anything else than such a document."""
        size, digest = document["bytes"], document["sha256"]
        inputs = tuple((str(one["name"])[:200], _shape(one["shape"])) for one in document["inputs"])
        if type(size) is not int or not 0 < size < MOST_BYTES or not SHA256.fullmatch(digest):
            raise ValueError("the public part")
        if not inputs or sum(math.prod(shape) for _, shape in inputs) > MOST_VALUES:
            raise ValueError("the inputs of the public part")
        return Given(inputs, size, digest)


class Prefix:
    """The file, ready to run. Threads may share it."""

    def __init__(self, given: Given, body: bytes, where: str) -> None:
        """`where`: what errors name. SecurityError for another file than the servers agree on, PartyError for one that
        onnxruntime does not run."""
        if hashlib.sha256(body).hexdigest() != given.sha256:
            raise SecurityError("this is not the public part that both servers name", where=where, hint=HINT)
        self.given, self.where = given, where
        self.session = _session(body, where)
        self.names = [one.name for one in self.session.get_inputs()]
        if len(self.names) != len(given.inputs):
            raise PartyError("the public part takes other inputs than the servers say", where=where)

    def __call__(self, values: Sequence[Floats], wanted: Sequence[tuple[int, ...]]) -> list[Floats]:
        """What the program takes, in these shapes. ShapeError for inputs that are not the model's."""
        if len(values) != len(self.names):
            raise ShapeError(f"{len(values)} inputs for a model of {len(self.names)}")
        for value, (name, shape) in zip(values, self.given.inputs, strict=True):
            if value.shape != shape:
                raise ShapeError(f"shape {list(value.shape)}, the model takes {list(shape)}", where=f"input {name}")
        fed = {name: value.astype(np.float32) for name, value in zip(self.names, values, strict=True)}
        try:
            found = [np.asarray(value, dtype=np.float64) for value in self.session.run(None, fed)]
        except Exception as error:  # onnxruntime's own have no common class but this
            raise PartyError(f"the public part does not run: {_first_line(error)}", where=self.where) from None
        if [value.shape for value in found] != list(wanted):
            raise PartyError("the public part gives values of other shapes than the servers take", where=self.where)
        return found


HINT = "The right file is prefix.onnx in the bundle's public/ folder; without one, the client fetches it from the server."


def own(path: str | Path, given: Given) -> Prefix:
    """The public part from a file of the client's. UsageError, SecurityError."""
    place = Path(path)
    try:
        size = place.stat().st_size
        body = place.read_bytes() if size == given.bytes else b""
    except OSError as error:
        raise UsageError(f"cannot be read: {error}", where=str(place)) from None
    return Prefix(given, body, str(place))


def _session(body: bytes, where: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        hint = "pip install onnxruntime"
        raise MissingDependency("this model has a public part, which the client runs with onnxruntime", hint=hint) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    try:
        return onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see above
        raise PartyError(f"the public part is no model that onnxruntime runs: {_first_line(error)}", where=where) from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _shape(found: Any) -> tuple[int, ...]:
    shape = tuple(found)
    if not all(type(size) is int and 0 < size <= MOST_VALUES for size in shape) or len(shape) > 16:
        raise ValueError("a shape of the public part")
    return shape
