"""`Dump` writes the graph after every step: each rewrite of two small models, as golden text."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mpcc import pipeline
from mpcc.approximate import Plan
from mpcc.errors import UsageError
from mpcc.show.dump import INDEX, Dump, text
from tests.models.pass_models import model

Golden = Callable[[str, str], None]


def steps(folder: Path) -> str:
    """The index, then the first graph of each level whole and of each later step what it changed."""
    parts, before, level = [(folder / INDEX).read_text()], list[str](), ""
    for file in sorted(folder.glob("*.txt"))[1:]:
        lines = file.read_text().splitlines()
        shown = lines
        if file.name.split("-")[1] == level:
            shown = list(difflib.unified_diff(before, lines, n=0, lineterm=""))[2:]
        parts.append("\n".join([f"== {file.name}", *shown, ""]))
        before, level = lines, file.name.split("-")[1]
    return "\n".join(parts)


def test_the_exact_rewrites_of_a_class_token(tmp_path: Path, golden: Golden) -> None:
    """The joint product is split, the last block keeps one token, the norms are folded: and the last sweep is quiet."""
    module, x = model("class token")
    pipeline.transform(module, (x,), observe=Dump(tmp_path / "steps"))
    golden("class_token", steps(tmp_path / "steps"))


def test_all_levels_of_two_layers(tmp_path: Path, golden: Golden) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).eval()
    plan = Plan.from_json(
        '{"version": 1, "notes": {}, "sites": {"1.gelu": {"approximation": "gelu_quad", "options": {}}}}'
    )
    pipeline.optimize(layers, (torch.randn(1, 3),), plan=plan, observe=Dump(tmp_path / "steps"))
    golden("two_layers", steps(tmp_path / "steps"))


def test_the_last_graph_is_what_runs(tmp_path: Path) -> None:
    module, x = model("mean")
    after = pipeline.transform(module, (x,), observe=Dump(tmp_path / "steps"))
    assert sorted((tmp_path / "steps").iterdir())[-1].read_text() == text(after.graph)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        Dump(tmp_path)
