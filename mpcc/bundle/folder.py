"""The names in the folder of a bundle, and what can be said of a folder before anything is imported, read or computed."""

from __future__ import annotations

from pathlib import Path

from mpcc.errors import BundleError

MANIFEST, PLAN, MODEL, PROGRAM, WEIGHTS, REPORT = (
    "manifest.json",
    "plan.json",
    "model.onnx",
    "program.json",
    "weights.safetensors",
    "report.html",
)
MODEL_WEIGHTS = "model.onnx.data"
"""The weights of model.onnx when it is too large for one file."""
OWNER = "owner.json"
PUBLIC_FOLDER = "public"
"""The part of a bundle that the client and the dealer get."""
PREFIX = "prefix.onnx"
"""The public part of the model, where there is one: the client runs it in float on its input."""
PUBLIC_WEIGHTS = "public.safetensors"
"""The public ones of the program's weights, where there are some: both parties multiply by them."""
CIRCUIT, CIRCUIT_WEIGHTS = "circuit.json", "circuit.safetensors"
"""What the engine of another protocol runs (`mpcc.ir.circuit`), and the weights at its scales; for the server only."""
FILES = (PLAN, PREFIX, MODEL, MODEL_WEIGHTS, PROGRAM, WEIGHTS, PUBLIC_WEIGHTS, CIRCUIT, CIRCUIT_WEIGHTS, REPORT)
REQUIRED = (PLAN, PROGRAM, WEIGHTS, REPORT)
PUBLIC = (PLAN, PROGRAM, PREFIX, PUBLIC_WEIGHTS, CIRCUIT)
"""All that the client and the dealer need, besides the manifest."""
OPTIONAL = (PREFIX, PUBLIC_WEIGHTS, CIRCUIT)
"""Those of them that not every bundle has."""
PRIVATE = (WEIGHTS, MODEL, MODEL_WEIGHTS, CIRCUIT_WEIGHTS, OWNER)
"""What they must not have."""
FRONT = "front.json"
"""The file that marks the folder of a Pareto front."""


def check_bundle(folder: Path) -> None:
    """BundleError if there is no bundle at `folder`."""
    hint = "Bundles are folders that `mpcc optimize` writes."
    if not folder.exists():
        raise BundleError("there is no such folder", where=str(folder), hint=hint)
    if not folder.is_dir():
        raise BundleError("this is a file, not a bundle", where=str(folder), hint=hint)
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"not a bundle: {MANIFEST} is missing", where=str(folder), hint=hint)


def check_place(place: Path, mark: str | None = None) -> None:
    """BundleError if `place` exists and is not a bundle (or, given `mark`, not a folder with that file)."""
    if not place.exists():
        return
    if not place.is_dir():
        raise BundleError("a file of that name exists", where=str(place), hint="Choose another folder with -o.")
    if any(place.iterdir()) and not (place / (mark or MANIFEST)).is_file():
        raise BundleError(
            f"the folder is not a {'Pareto front' if mark else 'bundle'} and was not touched",
            where=str(place),
            hint="Choose another folder with -o.",
        )
