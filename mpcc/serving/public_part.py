"""The public part of a served model (`mpcc optimize --public`): what clients compute in float before they share anything.

    part = PublicPart.of(bundle)             None for a model whose parameters are all secret
    part.body, part.document()               the answer of GET /v1/prefix; what /v1/model says of it
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpcc.bundle import Bundle
from mpcc.errors import BundleError
from mpcc.ir.nn import inputs_of, shape_of

Shape = tuple[int, ...]
AGAIN = "Make the bundle again: mpcc optimize ... --public."


@dataclass(frozen=True)
class PublicPart:
    """`body`: the ONNX file. `inputs`: name and shape of what the client gives it."""

    body: bytes
    inputs: tuple[tuple[str, Shape], ...]

    @staticmethod
    def of(bundle: Bundle, wanted: Sequence[Shape]) -> PublicPart | None:
        """The part of a bundle whose program takes inputs of the shapes `wanted`. BundleError where it gives others."""
        graph = bundle.prefix()
        if graph is None:
            return None
        assert bundle.prefix_file is not None
        (given,) = graph.graph.output_node().args
        found = [shape_of(value) for value in (given if isinstance(given, tuple) else (given,))]  # type: ignore[arg-type]
        if found != list(wanted):
            what = f"the public part gives {_text(found)}, the program takes {_text(wanted)}"
            raise BundleError(what, where=str(bundle.prefix_file), hint=AGAIN)
        inputs = tuple((str(node.target), shape_of(node)) for node in inputs_of(graph))
        return PublicPart(bundle.prefix_file.read_bytes(), inputs)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    def document(self) -> dict[str, Any]:
        """What a client needs to fetch, check and run it."""
        inputs = [{"name": name, "shape": list(shape)} for name, shape in self.inputs]
        return {"inputs": inputs, "bytes": len(self.body), "sha256": self.sha256}


def public_parameters(bundle: Bundle) -> tuple[str, ...]:
    """The names of the model's public parameters, in its public part or behind it."""
    found = bundle.plan.notes.get("public", [])
    if not isinstance(found, list):
        raise BundleError("the plan's note `public` is no list of names", where=str(bundle.folder), hint=AGAIN)
    return tuple(map(str, found))


def _text(shapes: Sequence[Shape]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
