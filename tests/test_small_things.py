"""Small things of a day's use in Python: what an answer shows of itself, inputs as people have them, mistakes in arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mpcc
from mpcc import registry
from mpcc.calibration.inputs import evenly, load_calibration
from mpcc.errors import Assumed, UsageError
from mpcc.pipeline import Optimized


@pytest.fixture(scope="module")
def made() -> Optimized:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).eval()
    return mpcc.optimize(model, (torch.zeros(1, 4),), calibration=torch.randn(64, 4), machine="reference")


def test_an_answer_shows_itself(made: Optimized, tmp_path: Path) -> None:
    """One line, a table, a picture: not 70,005 characters."""
    assert len(repr(made)) < 200 and "rounds" in repr(made)
    table = made._repr_html_()
    assert "gelu (1)" in table and table.count("<tr>") == table.count("</tr>") and "online" in table
    plot = made.plot()
    assert plot._repr_svg_().startswith("<svg")
    assert plot.save(tmp_path / "x.svg").read_text() == plot.svg


@pytest.mark.parametrize("budget", [2.0, 2, True])
def test_a_budget_without_a_unit(budget: object) -> None:
    with pytest.raises(UsageError, match="no unit"):
        mpcc.optimize(nn.Linear(2, 2), (torch.zeros(1, 2),), budget=budget)  # type: ignore[arg-type]


def test_batches_of_a_data_loader() -> None:
    """Labels are left out, what is beyond 256 examples is not read, mappings go by the inputs' names."""
    images, labels = torch.randn(600, 4), torch.zeros(600)
    found = load_calibration(DataLoader(TensorDataset(images, labels), batch_size=32), [(1, 4)])
    assert torch.equal(torch.cat(list(found)), images[:256])
    pairs = load_calibration(DataLoader(TensorDataset(images[:8], images[8:16], labels[:8]), batch_size=4), [(1, 4), (1, 4)])
    assert len(pairs) == 8 and all(len(call) == 2 and call[0].shape == (1, 4) for call in pairs)
    named = load_calibration([{"x": images[:2], "labels": labels[:2]}], [(1, 4)], names=["x"])
    assert torch.equal(named[0], images[:2])
    with pytest.raises(UsageError, match="not the inputs x"):
        load_calibration([{"pixels": images}], [(1, 4)], names=["x"])


def test_a_folder_is_sampled_evenly_and_says_what_is_assumed(tmp_path: Path) -> None:
    """Of a folder sorted by class, some of each class."""
    pillow = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        pillow.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "0.png")
    with pytest.warns(Assumed, match="2 of 2 images.*0.485.*centre crop|2 of 2 images.*centre crop.*0.485"):
        assert load_calibration(tmp_path, [(1, 3, 4, 4)]).shape == (2, 3, 4, 4)
    assert evenly([Path(str(n)) for n in range(10)], 4) == [Path("0"), Path("2"), Path("5"), Path("7")]


def test_a_failing_op_count_ends_in_its_table(tmp_path: Path) -> None:
    """Not in lines of torch's trace."""
    (tmp_path / "test_it.py").write_text(
        "import torch\ndef test_it(op_counts):\n    op_counts(torch.nn.Linear(4, 3), (torch.zeros(1, 4),), name='x')\n"
    )
    (tmp_path / "x.op-counts.json").write_text(_cheaper())
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
                          capture_output=True, text=True, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1 and "costs more than x.op-counts.json allows" in done.stdout
    assert "DEBUG" not in done.stdout and len(done.stdout.splitlines()) < 40


def test_op_counts_as_a_table(tmp_path: Path) -> None:
    """pytest --op-counts: each model, its rounds and bytes, and what changed since the file was committed."""
    (tmp_path / "test_it.py").write_text(
        "import torch\ndef test_it(op_counts):\n    op_counts(torch.nn.Linear(4, 3), (torch.zeros(1, 4),), name='x')\n"
    )
    text = mpcc.count(nn.Linear(4, 3), (torch.zeros(1, 4),)).to_json()
    (tmp_path / "x.op-counts.json").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    same = subprocess.run([*command, "--op-counts"], capture_output=True, text=True, cwd=tmp_path)
    assert same.returncode == 0 and "\nx: 2 rounds, " in same.stdout and "(+" not in same.stdout
    (tmp_path / "x.op-counts.json").write_text(_cheaper())
    dearer = subprocess.run([*command, "--op-counts"], capture_output=True, text=True, cwd=tmp_path)
    assert dearer.returncode == 1 and "\nx: 2 (+2) rounds, " in dearer.stdout


def _cheaper() -> str:
    """Counts that a linear layer cannot reach."""
    import json

    counts = json.loads(mpcc.count(nn.Linear(4, 3), (torch.zeros(1, 4),)).to_json())
    return json.dumps(counts | {"rounds": 0, "bytes": 1})


def test_a_checkout_finds_its_plug_ins_without_being_installed() -> None:
    """After `pip install .`, Python in the checkout imports the checkout, whose plug-ins stand beside mpcc/."""
    code = (
        "import sys; sys.meta_path[:] = [one for one in sys.meta_path if 'editable' not in f'{one} {type(one)}'.lower()];"
        "from mpcc import registry; print(len(registry.protocols()), len(registry.approximations()) > 20)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.split() == [str(len(registry.protocols())), "True"], done.stderr
