"""Reads a bundle: every file is checked against the manifest before it is parsed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, fx

from mpcc.approximate import Plan
from mpcc.errors import BundleError
from mpcc.ir.circuit import Circuit
from mpcc.ir.info import weight_of
from mpcc.program import Program
from mpcc.program.correlations import check_correlations

from . import folder as names
from .manifest import Manifest, check_files, check_whole, read_manifest
from .owner import AGAIN, read_key, version_of
from .weights import read_weights

LARGEST_WEIGHT = 2.0**62
"""An integer of the ring with room for its sign and its share's (`lowering.values.LIMIT`)."""


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. Client and dealer open it without weights and key."""

    folder: Path
    manifest: Manifest
    plan: Plan
    program: Program
    key: bytes | None = None
    """The owner's; a bundle that was opened without it is that of the client or the dealer."""

    @property
    def model(self) -> Path:
        """Path of the rewritten model as ONNX. BundleError if the bundle has none."""
        if names.MODEL not in self.manifest.files:
            raise BundleError(
                f"the bundle has no {names.MODEL}, because the model has operators that ONNX lacks", where=str(self.folder)
            )
        return self.folder / names.MODEL

    @property
    def prefix_file(self) -> Path | None:
        """Path of the public part as ONNX, where there is one."""
        return self.folder / names.PREFIX if names.PREFIX in self.manifest.files else None

    def circuit(self) -> Circuit | None:
        """What the engine of another protocol runs; None where the bundle is for mpcc's own."""
        if names.CIRCUIT not in self.manifest.files:
            return None
        path = self.folder / names.CIRCUIT
        return Circuit.from_json(path.read_bytes(), str(path))

    def circuit_weights(self) -> dict[str, Tensor]:
        """The server's weights for it, by the circuit's names; none at the client."""
        known = self.key is not None and names.CIRCUIT_WEIGHTS in self.manifest.files
        return read_weights(self.folder / names.CIRCUIT_WEIGHTS) if known else {}

    def prefix(self) -> fx.GraphModule | None:
        """The public part of the model in float, for the client; None if the bundle has none."""
        from mpcc.frontend import capture

        return None if self.prefix_file is None else capture(self.prefix_file, None)

    def reference(self) -> fx.GraphModule | None:
        """The rewritten model in float, captured from its ONNX file; None if the bundle has none."""
        from mpcc.frontend import capture

        return None if names.MODEL not in self.manifest.files else capture(self.model, None)


def open_bundle(folder: str | Path, *, weights: bool = True) -> Bundle:
    """Read the bundle in a folder. With `weights=False`, only the public files (program and plan) are needed and checked."""
    place = Path(folder)
    manifest = read_manifest(place)
    if weights:
        check_whole(place, manifest)
    key = read_key(place) if weights else None
    check_files(place, manifest, key)
    constants = read_weights(place / names.WEIGHTS) if weights else {}
    if names.PUBLIC_WEIGHTS in manifest.files:
        constants |= read_weights(place / names.PUBLIC_WEIGHTS)
    program = Program.from_json((place / names.PROGRAM).read_bytes(), constants, where=str(place / names.PROGRAM))
    if program.digest != manifest.program_digest:
        what = f"{names.PROGRAM} does not match the digest in {names.MANIFEST}"
        raise BundleError(what, where=str(place), hint=AGAIN)
    check_correlations(program)
    plan = Plan.from_json((place / names.PLAN).read_bytes(), where=str(place / names.PLAN))
    _check_weights(place, program, constants, program.shapes if key is not None else program.public_names)
    if key is not None:
        if version_of(plan, constants, key) != manifest.model_version:
            raise BundleError(f"weights and plan are not those of the version in {names.MANIFEST}", where=str(place), hint=AGAIN)
    return Bundle(place, manifest, plan, program, key)


def _check_weights(place: Path, program: Program, constants: Mapping[str, Tensor], wanted: Collection[str]) -> None:
    """BundleError for weights among the `wanted` that are missing, of another shape, or no numbers of the ring."""
    for name in wanted:
        file = names.PUBLIC_WEIGHTS if name in program.public_names else names.WEIGHTS
        if name not in constants:
            raise BundleError(f"{file} lacks {name!r}", where=str(place), hint=AGAIN)
        if (found := tuple(constants[name].shape)) != program.shapes[name]:
            raise BundleError(f"{name!r} in {file} has shape {found}, not {program.shapes[name]}", where=str(place), hint=AGAIN)
    for weight in filter(None, map(weight_of, program.online.graph.nodes)):
        if weight.constant not in wanted:
            continue
        values = constants[weight.constant].double() * weight.scale
        if values.numel() and not float(values.abs().max()) < LARGEST_WEIGHT:  # NaN is not
            file = names.PUBLIC_WEIGHTS if weight.constant in program.public_names else names.WEIGHTS
            what = f"{weight.constant!r} in {file} has values that are infinite, NaN or beyond the ring"
            raise BundleError(what, where=str(place), hint=AGAIN)
