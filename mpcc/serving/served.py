"""What is served: the program of a bundle for one request and for batches, and the document that clients read about it.

    Served.of(bundle, batches=(1, 4, 16)).document("server", who)      the answer of GET /v1/model
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcc import security
from mpcc.bundle import Bundle
from mpcc.errors import UsageError
from mpcc.ir.answers import NOTE as ANSWERS
from mpcc.ir.answers import Answers
from mpcc.ir.info import input_of
from mpcc.ir.nn import shape_of
from mpcc.program import Program
from mpcc.program.batch import batched
from mpcc.program.check import check_masks

from .public_part import PublicPart, public_parameters

Words = NDArray[np.int64]
FORMAT = "mpcc served model 2"
ID_BYTES = DIGEST_BYTES = 16
"""A request's body begins with its id, drawn by the client, and the first bytes of the model's digest."""
WORD = 8
MOST_BATCH = 256
PREPROCESS = "preprocess"
"""The note of a plan that says how a picture becomes the model's input."""


@dataclass(frozen=True)
class Served:
    """A bundle made ready for serving. `programs`: batch size -> program, of which 1 is the bundle's own. `public_part`: what
    clients compute first, where there is such a part; inputs, shapes and words are those of the program behind it."""

    bundle: Bundle
    programs: Mapping[int, Program]
    public_part: PublicPart | None = None

    @staticmethod
    def of(bundle: Bundle, batches: Sequence[int] = (1,)) -> Served:
        """UsageError for sizes that mean nothing, UnsupportedOperator where a program cannot be batched, BundleError for a public
        part that does not belong to the program."""
        sizes = sorted({1, *batches})
        if sizes[0] < 1 or sizes[-1] > MOST_BATCH:
            raise UsageError(f"invalid batch sizes {', '.join(map(str, batches))}", hint=f"whole numbers from 1 to {MOST_BATCH}")
        programs = {size: batched(bundle.program, size) for size in sizes}
        for program in programs.values():
            check_masks(program)
        public_parameters(bundle)
        return Served(bundle, programs, PublicPart.of(bundle, _input_shapes(bundle.program)))

    @property
    def program(self) -> Program:
        return self.bundle.program

    @cached_property
    def digest(self) -> str:
        """What clients compare: SHA-256 of the program's digest, the model's version, and the public part, if there is one."""
        part = self.public_part
        known = self.program.digest + self.bundle.manifest.model_version + ("" if part is None else part.sha256)
        return hashlib.sha256(known.encode()).hexdigest()

    @cached_property
    def input_shapes(self) -> list[tuple[int, ...]]:
        return _input_shapes(self.program)

    @cached_property
    def output_shapes(self) -> list[tuple[int, ...]]:
        return [shape_of(self.program.nodes[name]) for name, _ in self.program.outputs]

    @cached_property
    def computed(self) -> tuple[str, ...]:
        """What clients compute of the opened outputs. PlanError where the plan says something else than steps of the table."""
        found = self.bundle.plan.notes.get(ANSWERS)
        return () if found is None else Answers.read(found, len(self.program.outputs)).names

    @property
    def input_words(self) -> int:
        """64-bit words of one request."""
        return sum(int(np.prod(shape)) for shape in self.input_shapes)

    @property
    def output_words(self) -> int:
        """64-bit words of one answer."""
        return sum(int(np.prod(shape)) for shape in self.output_shapes)

    def stacked(self, size: int, requests: Sequence[Words | None]) -> list[Tensor]:
        """The inputs of the program for `size` requests: [size, *shape] each, or [*shape] for 1; zeros where one is missing."""
        words = torch.zeros((size, self.input_words), dtype=torch.int64)
        for row, request in zip(words, requests, strict=False):
            if request is not None:
                row.copy_(torch.from_numpy(request))
        parts = torch.split(words, [int(np.prod(shape)) for shape in self.input_shapes], 1)
        return [
            part.reshape(shape if size == 1 else (size, *shape))
            for part, shape in zip(parts, self.input_shapes, strict=True)
        ]

    def answers(self, size: int, outputs: Sequence[Tensor]) -> list[bytes]:
        """The outputs of the program as one body for each request."""
        rows = torch.cat([output.reshape(size, -1) for output in outputs], 1).contiguous()
        return [row.numpy().astype("<i8").tobytes() for row in rows]

    def document(self, role: str, where: Mapping[str, Any]) -> dict[str, Any]:
        """What a client needs, all of it public: shapes, scales, preprocessing, ranges, cost, and who sees what."""
        program, notes = self.program, self.bundle.plan.notes
        inputs = []
        for node in program.inputs():
            known = input_of(node)
            assert known is not None
            inputs.append({"name": known.name, "shape": list(shape_of(node)), "scale": known.scale})
        outputs = [
            {"shape": list(shape), "scale": scale, "noise": noise}
            for shape, (_, scale), noise in zip(self.output_shapes, program.outputs, program.flood, strict=True)
        ]
        cost, public = program.cost, public_parameters(self.bundle)
        return {
            "format": FORMAT,
            "role": role,
            "digest": self.digest,
            "inputs": inputs,
            "outputs": outputs,
            "prefix": None if self.public_part is None else self.public_part.document(),
            "answers": notes.get(ANSWERS),
            "preprocess": notes.get(PREPROCESS),
            "calibration": notes.get("guard"),
            "cost": {
                "rounds": cost.rounds,
                "bytes between server and helper": cost.bytes,
                "bytes from the dealer": cost.dealer_bytes,
                "bytes of a request": ID_BYTES + DIGEST_BYTES + WORD * self.input_words,
                "bytes of an answer": WORD * self.output_words,
            },
            "batches": list(self.programs),
            "hidden": program.hidden,
            "security": dict(security.served(self.computed, public, program.hidden)),
            **where,
        }


def _input_shapes(program: Program) -> list[tuple[int, ...]]:
    return [shape_of(node) for node in program.inputs()]
