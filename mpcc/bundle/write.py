"""Writes a bundle atomically."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, fx

from mpcc import files
from mpcc.approximate import Plan
from mpcc.errors import BundleError, MpccError
from mpcc.ir.circuit import Circuit
from mpcc.program import Program

from . import folder as names
from .folder import PUBLIC_FOLDER, check_place
from .manifest import Manifest, created_by, hash_of
from .owner import version_of, write_key
from .weights import write_weights

LARGEST_PREFIX = 2**31
"""Bytes of one ONNX file (protobuf's limit)."""

@dataclass(frozen=True)
class Contents:
    """The contents of a bundle. `module`: the rewritten nn-level graph, if available. `report`: HTML text. `key`: the owner's.

    `prefix`: the public part of the model, which the client computes alone. `circuit`: what the protocol's own engine runs.
    """

    plan: Plan
    program: Program
    key: bytes
    report: str
    module: fx.GraphModule | None = None
    prefix: fx.GraphModule | None = None
    circuit: Circuit | None = None
    circuit_weights: Mapping[str, Tensor] = field(default_factory=dict)


def save(contents: Contents, folder: str | Path) -> Path:
    """Write a bundle, replacing an older one on success only. BundleError if `folder` holds anything else."""
    place = Path(folder)
    with replaced(place) as new:
        files.write(new / names.PLAN, contents.plan.to_json())
        _write_model(contents.module, new / names.MODEL)
        if contents.prefix is not None:
            _write_prefix(contents.prefix, new / names.PREFIX)
        files.write(new / names.PROGRAM, contents.program.to_json())
        public = contents.program.public_constants
        secret = {name: value for name, value in contents.program.constants.items() if name not in public}
        write_weights(secret, new / names.WEIGHTS)
        if public:
            write_weights(public, new / names.PUBLIC_WEIGHTS)
        if contents.circuit is not None:
            files.write(new / names.CIRCUIT, contents.circuit.to_json())
            write_weights(contents.circuit_weights, new / names.CIRCUIT_WEIGHTS)
        files.write(new / names.REPORT, contents.report)
        write_key(contents.key, new)
        manifest = _manifest(contents, new)
        files.write(new / names.MANIFEST, manifest.to_json())
        _write_public(manifest, new)
    return place


def _manifest(contents: Contents, folder: Path) -> Manifest:
    program = contents.program
    return Manifest(
        program_digest=program.digest,
        model_version=version_of(contents.plan, program.constants, contents.key),
        inputs=[list(node.meta["val"].shape) for node in program.inputs()],
        outputs=[list(program.nodes[name].meta["val"].shape) for name, _ in program.outputs],
        files={name: hash_of(folder / name, contents.key) for name in names.FILES if (folder / name).exists()},
        created_by=created_by(),
    )


def _write_public(manifest: Manifest, folder: Path) -> None:
    """Exactly what the client and the dealer may have, in a folder of its own."""
    public = folder / PUBLIC_FOLDER
    public.mkdir()
    for name in filter(manifest.files.__contains__, names.PUBLIC):
        files.write(public / name, (folder / name).read_bytes())
    files.write(public / names.MANIFEST, manifest.public().to_json())


def _write_model(module: fx.GraphModule | None, path: Path) -> None:
    """Write the rewritten model, unless it has an operator that ONNX lacks."""
    if module is None:
        return
    from mpcc.frontend.export import export_onnx

    try:
        export_onnx(module, path)
    except MpccError:
        path.unlink(missing_ok=True)


def _write_prefix(prefix: fx.GraphModule, path: Path) -> None:
    """Write the public part. BundleError where ONNX lacks one of its operators: nobody could run the bundle without it."""
    from mpcc.frontend.export import export_onnx

    try:
        export_onnx(prefix, path)
    except MpccError as error:
        hint = "Make fewer parameters public, so that the operator is in the part that runs privately."
        raise BundleError(f"the public part of the model cannot be written: {error.what}", where=error.where, hint=hint) from None
    if not path.stat().st_size < LARGEST_PREFIX:
        raise BundleError("the public part of the model has 2 GiB or more", where=path.name, hint="Make fewer parameters public.")


@contextmanager
def replaced(place: Path, mark: str | None = None) -> Iterator[Path]:
    """A new folder that atomically replaces `place`. BundleError if something else than a bundle (or a folder with the file
    `mark`) is there."""
    check_place(place, mark)
    with files.replacing_folder(place) as new:
        yield new
