"""The pages: every command in them is run by a test here or by one that is named, the notebooks run, the site builds."""

from __future__ import annotations

import importlib.util
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
from tests.cli.test_party import COMMAND as MPCC
from tests.cli.test_party import free_ports

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("deploy/*.md"), ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]  # fmt: skip
GUIDES = [path for path in PAGES if "```sh\n" in path.read_text(encoding="utf-8")]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
LINE = re.compile(r"^ {0,4}(mpcc [a-z].*)$", re.M)
DIGITS = ROOT / "examples" / "digits_vit"
# Commands outside blocks marked `sh`, by page: which test runs them, or why none can.
ELSEWHERE = {
    "README.md": {
        "mpcc install-engine": "tests/cli/test_about.py, without the index", "mpcc doctor": "tests/cli/test_about.py",
    },
    "docs/index.md": {
        "mpcc install-engine": "tests/cli/test_about.py, without the index", "mpcc doctor": "tests/cli/test_about.py",
    },
    "docs/gpu.md": dict.fromkeys(
        ("mpcc gpu", "mpcc run", "mpcc serve", "mpcc verify", "mpcc benchmark", "mpcc optimize"),
        "needs a GPU: tests/cli/test_gpu.py",
    ),
    "docs/how-to/read-a-report.md": {"mpcc run": "part of a screen", "mpcc verify": "part of a screen"},
    "docs/how-to/run-with-spu.md": {"mpcc": "needs the optional engine SPU: tests/cli/test_spu.py"},
    "docs/security.md": {"mpcc optimize": "tests/cli/test_commands.py"},
    "docs/running.md": {"mpcc keys": "test_three_parties_as_shown", "mpcc run": "test_three_parties_as_shown"},
    "docs/serving.md": {
        "mpcc optimize": "test_a_service_as_shown", "mpcc serve": "test_a_service_as_shown; by roles: tests/serving",
        "mpcc ask": "test_a_service_as_shown", "mpcc keys": "tests/cli/test_keys.py",
    },
    "examples/web/README.md": {"mpcc optimize": "test_a_service_as_shown", "mpcc serve": "test_a_service_as_shown"},
    "deploy/README.md": {"mpcc keys": "tests/cli/test_keys.py", "mpcc ask": "needs a cluster; tests/cli/test_serve.py"},
}  # fmt: skip
VIT = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed, self.pos_embed = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(1, 4, 8))
        block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.blocks, self.head = nn.ModuleList([block]), nn.Linear(8, 2)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))

def make_model():
    torch.manual_seed(0)
    model = Tiny().eval()
    for one in [*model.patch_embed.parameters(), model.pos_embed]:
        one.requires_grad_(False)
    return model, (torch.zeros(1, 3, 8, 8),)
"""


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


def test_every_command_is_run_or_says_where() -> None:
    """In a block marked `sh`, which `test_the_commands_of_a_page_run` runs, or in the table of those that are not."""
    left = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for words in [one for one in commands(text) if one not in commands(text, "sh")]:
            if not any(words[: len(known.split())] == known.split() for known in ELSEWHERE.get(named(page), {})):
                left.append((named(page), " ".join(words)))
    assert left == []
    for page, known in ELSEWHERE.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert all(any(words[: len(one.split())] == one.split() for words in commands(text)) for one in known), page


def test_every_module_and_target_that_is_named_exists() -> None:
    """`python -m benchmarks.x` and `make x` in the text and in code."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for module in re.findall(r"python -m ((?:benchmarks|mpcc)[\w.]*)", text):
            assert importlib.util.find_spec(module) is not None, (named(page), module)
        for target in re.findall(r"`make ([\w-]+)", text) + re.findall(r"^make ([\w-]+)", text, re.M):
            assert re.search(rf"^(?:.* )?{target}(?: .*)?:(?!=)", makefile, re.M), (named(page), target)


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_the_commands_of_a_page_run(page: Path, mpcc: Mpcc, model: Path, calibration: Path, tmp_path: Path) -> None:  # noqa: F811
    """One after another in one folder, with small models under the names that the pages use."""
    _furnish(tmp_path, model, calibration, pictures=page.stem in ("tuning", "public-parameters"))
    if page.stem != "README":
        assert mpcc("optimize", "model.onnx", "--calibration", "images.npy").code == 0
    for words in commands(page.read_text(encoding="utf-8"), "sh"):
        if "edited.json" in words:
            shutil.copy("first.mpcc/plan.json", "edited.json")
        answer = mpcc(*words[1:])
        assert answer.code == 0, (words, answer.err)


def _furnish(folder: Path, model: Path, calibration: Path, *, pictures: bool) -> None:  # noqa: F811
    """What the pages name: model.onnx, images.npy (calibration.npy), model.py, vit.py, photos/, data.npz, examples/."""
    shutil.copy(model, folder / "model.onnx")
    generator = np.random.default_rng(0)
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "vit.py").write_text(VIT)
    (folder / "model.py").write_text(VIT)
    images = np.load(calibration)
    if pictures:
        from PIL import Image

        images = generator.normal(size=(240, 3, 8, 8)).astype(np.float32)
        labels = np.arange(len(images)) % 2
        np.savez(folder / "data.npz", images=images, labels=labels)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            (folder / "photos" / str(label)).mkdir(parents=True, exist_ok=True)
            pixels = np.clip(image.transpose(1, 2, 0) * 60 + 128, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / str(label) / f"{number}.png")
        code = "import torch, vit; torch.onnx.export(*vit.make_model(), 'model.onnx', dynamo=True)"
        subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    for name in ("images", "calibration"):
        np.save(folder / f"{name}.npy", images)


@pytest.mark.slow
def test_three_parties_as_shown(mpcc: Mpcc, model: Path, calibration: Path, tmp_path: Path) -> None:  # noqa: F811
    """docs/running.md: the dealer and the server go on; the client's command ends with an answer."""
    _furnish(tmp_path, model, calibration, pictures=False)
    np.save(tmp_path / "x.npy", np.zeros((1, 4), np.float32))
    assert mpcc("optimize", "model.onnx", "--calibration", "images.npy").code == 0
    shutil.copytree("model.mpcc/public", "public")
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8").replace("A:7000,B:7001,C:7002", free_ports())
    keys, *parties = [one for one in commands(text) if one not in commands(text, "sh")]
    assert mpcc(*keys[1:]).code == 0
    running = [subprocess.Popen([*MPCC, *words[1:]], stderr=subprocess.PIPE, text=True) for words in parties[:2]]
    try:
        client = subprocess.run([*MPCC, *parties[2][1:]], capture_output=True, text=True, timeout=120)
        assert client.returncode == 0 and Path("y.npy").is_file(), client.stderr
    finally:
        for one in running:
            one.terminate()
    said = [one.communicate(timeout=30)[1] for one in running]
    assert "dealer: waiting for the server and a client" in said[0] and "server: waiting for a client" in said[1]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/serving.md", "examples/web/README.md"])
def test_a_service_as_shown(page: str, mpcc: Mpcc, tmp_path: Path) -> None:  # noqa: F811
    """Optimise, serve and, where the page does, ask: with the digits model under the page's names, at a port that is free."""
    from PIL import Image

    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name in ("model.onnx", "preprocess.json"):
        shutil.copy(DIGITS / name, name)
    np.save("images.npy", np.load(DIGITS / "calibration.npz")["images"][:64])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("image.png")
    listed = commands((ROOT / page).read_text(encoding="utf-8"))
    optimize, serve = (next(one for one in listed if one[1] == name) for name in ("optimize", "serve"))
    answer = mpcc(*optimize[1:])
    assert answer.code == 0, answer.err
    port = int(free_ports().split(",")[0].rpartition(":")[2])
    service = subprocess.Popen([*MPCC, *serve[1:], "--http", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        asking = next(line for line in service.stdout if line.startswith("Ask it:"))
        ask = next((one for one in listed if one[1] == "ask"), shlex.split(asking.partition(": ")[2].partition("(")[0]))
        words = [word.replace(":8000", f":{port}").replace(":8001", f":{port + 1}") for word in ask]
        answer = mpcc(*words[1:])
        assert answer.code == 0 and "image.png:" in answer.out, answer.err
    finally:
        service.terminate()
        service.wait(30)


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
    drawn = any("image/svg+xml" in output.get("data", {}) for output in shown)
    assert drawn == any(".plot()" in cell.source for cell in notebook.cells)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {path.parent.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("index.html")}
    made = {"tutorial", "tutorial-training", "tutorial-serving", "reference/commands", "reference/python"}
    assert made | {"glossary", "how-to/guard-my-ci"} <= pages


def test_every_page_is_on_the_site() -> None:
    """A page that nobody links to is not read."""
    listed = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    made = {"tutorial.md", "tutorial-training.md", "tutorial-serving.md", "reference/commands.md"}
    assert {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")} == listed - made


def test_the_notebooks_are_json_that_git_can_compare() -> None:
    for path in ROOT.glob("examples/notebooks/*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
