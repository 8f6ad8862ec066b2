"""The lists at 80 columns: whole words, a line a fact."""

from __future__ import annotations

import pytest
from rich.console import Console

from mpcc.cli import passes, protocols, recipes
from tests.cli.conftest import Mpcc


@pytest.mark.parametrize(
    ("command", "module", "words"),
    [
        ("protocols", protocols, ["crypten-stock", "cheetah", "correlated randomness:", "2 parties"]),
        ("recipes", recipes, ["mpcformer", "source: ", "softmax: "]),
        ("passes", passes, ["fold_norm_affine", "softmax_tempered", "bounded"]),
    ],
)
def test_a_list_at_80_columns(
    mpcc: Mpcc, monkeypatch: pytest.MonkeyPatch, command: str, module: object, words: list[str]
) -> None:
    monkeypatch.setattr(module, "console", lambda: Console(width=80))
    said = mpcc(command).out
    assert all(word in said for word in words) and max(map(len, said.splitlines())) <= 80
    broken = [line for line in said.splitlines() if 0 < len(line.strip()) <= 2]
    assert not broken, broken  # names folded letter by letter
