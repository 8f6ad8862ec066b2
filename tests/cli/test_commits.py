"""mpcc count --diff git:REVISION: what a commit changed, and what cannot be read from one."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Mpcc

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def repository(mpcc: Mpcc, model: Path, tmp_path: Path) -> Path:
    """A commit with the model and counts that are too low, in a folder of their own."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(model, folder / "tiny.onnx")
    answer = mpcc("count", folder / "tiny.onnx", "--write", folder / "counts.json")
    assert answer.code == 0, answer.err
    counts = json.loads((folder / "counts.json").read_text())
    (folder / "counts.json").write_text(json.dumps(counts | {"rounds": 1}))
    for command in ("init -q", "add .", "-c user.name=x -c user.email=x@y -c commit.gpgsign=false commit -qm x"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    return folder


def test_the_model_and_another_file_of_a_commit(mpcc: Mpcc, repository: Path) -> None:
    same = mpcc("count", "models/tiny.onnx", "--diff", "git:HEAD", "--json")
    assert same.code == 0 and [one["what"] for one in json.loads(same.out)] == ["total", "total"], same
    other = mpcc("count", "models/tiny.onnx", "--diff", "git:HEAD:models/counts.json", "--json")
    assert other.code == 0 and json.loads(other.out)[0]["before"] == 1
    assert [path for path in repository.parent.iterdir() if path.name not in ("models", ".git")] == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("git:HEAD~9", ("HEAD~9",)),
        ("git:HEAD:models/none.onnx", ("none.onnx",)),
        ("git:HEAD:models", ("no file", ".onnx")),
        ("git:--output=x:models/tiny.onnx", ("--diff",)),
    ],
)
def test_what_no_commit_has(mpcc: Mpcc, repository: Path, asked: str, words: tuple[str, ...]) -> None:
    answer = mpcc("count", "models/tiny.onnx", "--diff", asked)
    assert answer.code == 2 and all(word in answer.err for word in words) and answer.out == "", answer
    assert not (repository / "x").exists()
