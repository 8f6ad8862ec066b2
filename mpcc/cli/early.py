"""What a command says before anything heavy is imported: is there what it reads, and can it write what it will write?

Nothing here needs torch, so a wrong path is answered in a moment, and no hour of search ends at a folder that is read-only.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mpcc import files
from mpcc.bundle.folder import PLAN, check_bundle, check_place
from mpcc.errors import ModelFileError, UsageError

FORMS = (
    "MODEL is x.onnx, x.pt2, a bundle folder, package.module:function (whose code is run), or a model of a library by name: "
    "timm:NAME, torchvision:NAME, hf:NAME, open_clip:NAME."
)
ARRAYS = (".npy", ".npz")
INPUTS = "Give a .npy or .npz file, a folder of images, or `package.module:function`."


def model(text: str) -> str:
    """The stem that files made from MODEL are named by. ModelFileError if it names a file that is not there."""
    if not text.strip():
        raise ModelFileError("no model is named", where="MODEL", hint=FORMS)
    path = Path(text)
    if path.is_dir():
        check_bundle(path)
        return path.resolve().stem
    if path.exists():
        return path.stem
    home, colon, name = text.rpartition(":")
    if not colon or not home or (home.endswith(".py") and not Path(home).is_file()):
        raise ModelFileError("there is no such file or folder", where=home or text, hint=FORMS)
    return name


def bundle(folder: Path) -> None:
    """BundleError if there is no bundle."""
    check_bundle(folder)


def inputs(source: object, option: str = "--calibration") -> None:
    """UsageError if `source` is a path, and nothing is there; functions and sources by name are left to who imports them."""
    text = str(source)
    if source is not None and not Path(text).exists() and not (":" in text or "=" in text):
        raise UsageError("there is no such file or folder", where=f"{option} {text}", hint=INPUTS)


def read(paths: Iterable[Path | None], option: str) -> None:
    """UsageError for the first of these files that is not there."""
    for path in paths:
        if path is not None and not path.exists():
            raise UsageError("there is no such file", where=f"{option} {path}")


def plan(path: Path | None, option: str) -> None:
    """UsageError unless the file is there."""
    read([path], option)
    if path is not None and path.is_dir():
        raise UsageError("this is a folder", where=f"{option} {path}", hint=f"Give a plan in it, such as {path / PLAN}.")


def answer(path: Path | None) -> None:
    """As `written`, of a file that numpy will read by its name."""
    if path is not None and not path.is_dir() and path.suffix not in ARRAYS:
        hint = f"Answers are written as NumPy files: name it {path.stem}.npy."
        raise UsageError(f"unsupported kind of file {path.suffix!r}", where=f"--output {path}", hint=hint)
    written(path)


def written(*paths: Path | None) -> None:
    """UsageError for a folder in place of a file, OSError for a file that cannot be written."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UsageError("this is a folder", where=str(path), hint="Give the name of a file.")
        files.check_writable(path)


def folder(place: Path, mark: str | None = None) -> None:
    """BundleError if something else than a bundle is at `place`; OSError if it cannot be written."""
    check_place(place, mark)
    files.check_writable(place, parents=True)
