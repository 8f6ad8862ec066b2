"""The fitted family beside the published entries: docs/approximations.json, which a script measures, and one operator anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import approximations

ROOT = Path(__file__).parents[2]


TABLE = json.loads((ROOT / "docs" / "approximations.json").read_text("utf-8"))
ROWS = [approximations.Row(**approximations._read(row)) for row in TABLE]
PUBLISHED = [row for row in ROWS if row.published and row.level != "structural"]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.operator}-{row.values}-{row.name[:12]}")
def test_a_fitted_member_needs_less_for_at_most_the_error_of_each_published_entry(row: approximations.Row) -> None:
    """No more rounds, no more bytes, and fewer of one of them, on the same values in fixed point."""
    fitted = [r for r in ROWS if not r.published and (r.operator, r.values) == (row.operator, row.values) and r.rounds]
    near = [r for r in fitted if r.error <= row.error and r.rounds <= row.rounds and r.bytes <= row.bytes]
    assert any(r.rounds < row.rounds or r.bytes < row.bytes for r in near)


def test_every_operator_is_held_against_its_published_entries() -> None:
    assert {(r.operator, r.values) for r in PUBLISHED} == {(o, v) for o in approximations.TITLES for v in approximations.SETS}


def test_the_page_is_made_of_the_figures() -> None:
    page = (ROOT / "docs" / "approximations.md").read_text("utf-8")
    assert page == approximations.page(ROWS), "run: python -m benchmarks.approximations"


def test_layer_norm_measured_anew_beats_what_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    shape = (1, 50, 96)
    rows = approximations.measured("layer_norm", "uniform", approximations.uniform(shape, 3), approximations.uniform(shape, 4))
    assert len([r for r in rows if r.published and r.rounds]) == 3
    assert approximations.unbeaten(rows) == []
