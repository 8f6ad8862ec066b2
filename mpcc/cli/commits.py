"""git:REVISION and git:REVISION:PATH in place of a file: the file as it is in that commit of the repository here."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpcc.errors import UsageError

PREFIX = "git:"
FILES = (".onnx", ".pt2", ".json")


def path_of(text: str, model: str) -> str:
    """The path that `text` asks for: its own, or that of the model. UsageError where it is no file that a commit can hold."""
    _, _, named = text.removeprefix(PREFIX).partition(":")
    path = named or model
    if not path.endswith(FILES):
        hint = f"One of: {', '.join(FILES)}."
        raise UsageError(f"{path} is no file that is read from a commit", where=f"--diff {text}", hint=hint)
    return path


@contextmanager
def committed(text: str, model: str) -> Iterator[str]:
    """A copy of the file as it was committed, for as long as it is needed; any other text as it is."""
    if not text.startswith(PREFIX):
        yield text
        return
    revision, path = text.removeprefix(PREFIX).partition(":")[0], path_of(text, model)
    hint = f"git show {revision}:{path} has to print the file; large files that git keeps elsewhere are not there."
    if shutil.which("git") is None:
        raise UsageError("git is not installed", where=f"--diff {text}")
    own = Path(path)
    shown = subprocess.run(
        ["git", "show", "--end-of-options", f"{revision}:./{own.name}"], cwd=own.parent if own.parent.is_dir() else None,
        capture_output=True,
    )  # fmt: skip
    if shown.returncode:
        said = shown.stderr.decode(errors="replace").strip().removeprefix("fatal: ")
        raise UsageError(said or "git failed", where=f"--diff {text}", hint=hint)
    with tempfile.TemporaryDirectory(prefix="mpcc-") as folder:
        copy = Path(folder) / own.name
        copy.write_bytes(shown.stdout)
        yield str(copy)
