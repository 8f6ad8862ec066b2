"""The pages: every command in them is one that mpcc has, those of the guides run, the notebook runs, the site builds."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from mpcc.cli import app
from tests.cli.conftest import Mpcc, bundle, calibration, model, mpcc  # noqa: F401 -- fixtures

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
GUIDES = [path for path in PAGES if "```sh\n" in path.read_text(encoding="utf-8")]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
LINE = re.compile(r"^ {0,4}(mpcc [a-z].*)$", re.M)


def commands(text: str, language: str | None = None) -> list[list[str]]:
    """The mpcc commands in code blocks, fenced (of one language, if it is named) or indented; comments are left out."""
    blocks = [body for kind, body in BLOCK.findall(text) if language is None or kind == language]
    if language is None:
        blocks.append("\n".join(line for line in BLOCK.sub("", text).splitlines() if line.startswith("    mpcc ")))
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in LINE.findall(joined)]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [path for path in PAGES if commands(path.read_text(encoding="utf-8"))], ids=named)
def test_every_command_exists_with_its_options(page: Path) -> None:
    group = typer.main.get_command(app)
    for words in commands(page.read_text(encoding="utf-8")):
        context = group.make_context("mpcc", words[1:])
        name, command, rest = group.resolve_command(context, words[1:])  # type: ignore[attr-defined]
        command.make_context(name, rest, parent=context)


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_the_commands_of_a_guide_run(page: Path, mpcc: Mpcc, model: Path, calibration: Path, tmp_path: Path) -> None:  # noqa: F811
    """One after another in one folder, with a small model under the names that the guides use."""
    shutil.copy(model, tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", np.load(calibration))
    assert mpcc("optimize", "model.onnx", "--calibration", "images.npy").code == 0
    for words in commands(page.read_text(encoding="utf-8"), "sh"):
        answer = mpcc(*words[1:])
        assert answer.code == 0, (words, answer.err)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/notebooks/*.ipynb")), ids=named)
def test_a_notebook_runs(path: Path) -> None:
    """From top to bottom; it is committed without outputs."""
    client, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("text/html" in output.get("data", {}) for output in shown)
    assert any("image/svg+xml" in output.get("data", {}) for output in shown)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {path.parent.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("index.html")}
    assert {"tutorial", "reference/commands", "reference/python", "glossary", "how-to/guard-my-ci"} <= pages


def test_every_page_is_on_the_site() -> None:
    """A page that nobody links to is not read."""
    listed = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    made = {"tutorial.md", "reference/commands.md"}
    assert {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")} == listed - made


def test_the_notebooks_are_json_that_git_can_compare() -> None:
    for path in ROOT.glob("examples/notebooks/*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
