"""Another package brings a protocol: installed beside mpcc it is listed, and priced by every command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROTOCOL, *_ = re.findall(
    r"^```python\n(.*?)^```",
    (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)
MODEL = """
from torch import nn, randn

class Product(nn.Module):
    def forward(self, x):
        return x @ x.transpose(-1, -2) * 0.5

def product():
    return Product(), (randn(1, 3, 5),)

def curved():
    return nn.GELU(), (randn(1, 3),)
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with an installed package `beaver` (module and metadata, as pip leaves them) and a model."""
    (tmp_path / "beaver.py").write_text(PROTOCOL)
    metadata = tmp_path / "beaver-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: beaver\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mpcc.costmodels]\nbeaver = beaver\n")
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


def mpcc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from mpcc.cli import main; main()", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_a_protocol_of_another_package_is_listed_and_priced(elsewhere: Path) -> None:
    listed = json.loads(mpcc(elsewhere, "protocols", "--json").stdout)
    assert [one["title"] for one in listed if one["name"] == "my_beaver"] == ["Beaver triples, GMW comparisons"]
    answer = mpcc(elsewhere, "profile", "model.py:product", "--protocol", "my_beaver,semi2k", "--json")
    assert answer.returncode == 0, answer.stderr
    ours = json.loads(answer.stdout)[0]["online"]
    assert (ours["rounds"], ours["bytes"]) == (1, 2 * 8 * (15 + 15))


def test_what_it_does_not_price_is_named_with_protocol_primitive_and_site(elsewhere: Path) -> None:
    answer = mpcc(elsewhere, "profile", "model.py:curved", "--protocol", "my_beaver")
    assert answer.returncode == 2 and answer.stdout == ""
    assert "gelu: the protocol 'my_beaver' has no price for 'gelu'" in answer.stderr
