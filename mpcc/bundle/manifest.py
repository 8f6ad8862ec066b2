"""The manifest of a bundle: its files with their hashes, the digest of its program, and the version of its model.

It has no dates, paths or user names. Hashes of what is the owner's alone are keyed (`owner`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mpcc.errors import BundleError
from mpcc.ir import kinds
from mpcc.ir.strict_json import parsed

from .folder import FILES, MANIFEST, OPTIONAL, PLAN, PUBLIC, PUBLIC_FOLDER, REQUIRED, check_bundle
from .owner import AGAIN, keyed

FORMAT = "mpcc bundle 2"
_HASH = re.compile("[0-9a-f]{64}")
_HINTS = {PLAN: "To compile an edited plan: mpcc optimize MODEL --plan plan.json -o BUNDLE"}


@dataclass(frozen=True)
class Manifest:
    """`files`: name -> SHA-256 (of the public files), or HMAC under the owner's key. `model_version`: HMAC of weights and plan; a
    new version needs new masks."""

    program_digest: str
    model_version: str
    inputs: Sequence[Sequence[int]]
    outputs: Sequence[Sequence[int]]
    files: Mapping[str, str]
    created_by: str
    format: str = FORMAT

    def public(self) -> Manifest:
        """What the client and the dealer get of it."""
        return replace(self, files={name: self.files[name] for name in PUBLIC if name in self.files})

    def to_json(self) -> str:
        """Deterministic JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder. BundleError if there is none, or it is damaged or of another format."""
    path = folder / MANIFEST
    check_bundle(folder)
    try:
        found: Any = parsed(path.read_bytes())
        version = found["format"]
        if version != FORMAT:
            raise BundleError(f"unsupported format {version!r}; this mpcc reads {FORMAT!r}", where=str(path), hint=AGAIN)
        manifest = Manifest(**found)
        _check(manifest)
        unknown = set(manifest.files) - set(FILES)
        missing = set(REQUIRED) - set(manifest.files)
        if unknown or (missing and not _is_public_part(manifest)):
            raise ValueError(f"unexpected files {sorted(unknown)}, missing files {sorted(missing)}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"damaged: {error}", where=str(path), hint=AGAIN) from None
    return manifest


def _check(manifest: Manifest) -> None:
    """ValueError for a field of another kind: what is in it is shown, compared and sent."""
    for text in (manifest.program_digest, manifest.model_version, *manifest.files.values()):
        if not _HASH.fullmatch(kinds.text(text)):
            raise ValueError(f"{kinds.shown(text)} is not a hash in hexadecimal")
    for shape in (*manifest.inputs, *manifest.outputs):
        kinds.sizes(shape)
    kinds.text(manifest.created_by)


def _is_public_part(manifest: Manifest) -> bool:
    """Whether it lists what client and dealer get, and nothing else."""
    return set(manifest.files) - set(OPTIONAL) == set(PUBLIC) - set(OPTIONAL)


def check_whole(folder: Path, manifest: Manifest) -> None:
    """BundleError if this is the part of a bundle that has no weights."""
    if _is_public_part(manifest):
        what = f"this is the part of a bundle for the client and the dealer ({PUBLIC_FOLDER}/), without the weights"
        raise BundleError(what, where=str(folder), hint="The server needs the whole bundle.")


def check_files(folder: Path, manifest: Manifest, key: bytes | None) -> None:
    """BundleError that names the first file that is missing or differs from its hash. Without a key: of the public files."""
    for name, expected in manifest.files.items():
        if key is None and name not in PUBLIC:
            continue
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{name} is missing", where=str(folder), hint=AGAIN)
        if hash_of(path, key) != expected:
            raise BundleError(
                f"{name} was changed after the bundle was created", where=str(folder), hint=_HINTS.get(name, AGAIN)
            )


def hash_of(path: Path, key: bytes | None) -> str:
    """The hash of a file of a bundle, in hexadecimal: keyed if the file is not public."""
    if key is not None and path.name not in PUBLIC:
        return keyed(path, key)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def created_by() -> str:
    """`mpcc 0.1.0`."""
    try:
        return f"mpcc {importlib.metadata.version('mpcc')}"
    except importlib.metadata.PackageNotFoundError:
        return "mpcc"
