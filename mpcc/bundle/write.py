"""Writes a bundle: whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import fx

from mpcc import files
from mpcc.approximate import Plan
from mpcc.errors import BundleError, MpccError
from mpcc.program import Program

from . import manifest as names
from .manifest import Manifest, created_by, sha256
from .weights import write_weights

FRONT = "front.json"
"""The file by which the folder of a front is known."""


@dataclass(frozen=True)
class Contents:
    """What a bundle is written of. `module` is the rewritten nn-level graph, if it is at hand; `report` is HTML text."""

    plan: Plan
    program: Program
    version: str
    report: str
    module: fx.GraphModule | None = None


def save(contents: Contents, folder: str | Path) -> Path:
    """Write a bundle. An existing bundle is replaced, only when all went well; any other folder with something in it
    is refused (BundleError)."""
    place = Path(folder)
    with replaced(place) as new:
        files.write(new / names.PLAN, contents.plan.to_json())
        _write_model(contents.module, new / names.MODEL)
        files.write(new / names.PROGRAM, contents.program.to_json())
        write_weights(contents.program.constants, new / names.WEIGHTS)
        files.write(new / names.REPORT, contents.report)
        files.write(new / names.MANIFEST, _manifest(contents, new).to_json())
    return place


def _manifest(contents: Contents, folder: Path) -> Manifest:
    program = contents.program
    return Manifest(
        program_digest=program.digest,
        model_version=contents.version,
        inputs=[list(node.meta["val"].shape) for node in program.inputs()],
        outputs=[list(program.nodes[name].meta["val"].shape) for name, _ in program.outputs],
        files={name: sha256(folder / name) for name in names.FILES if (folder / name).exists()},
        created_by=created_by(),
    )


def _write_model(module: fx.GraphModule | None, path: Path) -> None:
    """The rewritten model; left out when it holds an operator that has no ONNX form."""
    if module is None:
        return
    from mpcc.frontend.export import export_onnx

    try:
        export_onnx(module, path)
    except MpccError:
        path.unlink(missing_ok=True)


@contextmanager
def replaced(place: Path, mark: str | None = None) -> Iterator[Path]:
    """A new folder that takes the place of `place` (an older bundle, or an older folder with the file `mark`), whole or not
    at all. BundleError where something else stands."""
    check_place(place, mark)
    with files.replacing_folder(place) as new:
        yield new


def check_place(place: Path, mark: str | None = None) -> None:
    """BundleError when something that is no bundle (nothing with the file `mark`) stands at `place`."""
    if not place.exists():
        return
    if not place.is_dir():
        raise BundleError("a file of that name is in the way", where=str(place), hint="choose another folder with -o")
    if any(place.iterdir()) and not (place / (mark or names.MANIFEST)).is_file():
        raise BundleError(
            f"the folder holds something else than a {'front' if mark else 'bundle'}; it was left alone",
            where=str(place),
            hint="choose another folder with -o",
        )
