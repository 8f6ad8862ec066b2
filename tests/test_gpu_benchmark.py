"""The run that is prepared for a machine with a GPU, all of it at toy size on the kernels built for this CPU; and its page."""

from __future__ import annotations

import json

from benchmarks.gpu import SMALL, measure, read
from benchmarks.gpu_page import DOCS, END, START, known, text
from mpcc.runtime.device.compiled import HOST


def test_every_part_runs_and_agrees_with_the_cpu() -> None:
    found = measure(HOST, None, small=True, limit=300.0)
    assert found["kernels"]["different"] == 0 and found["kernels"]["compared"] > 30
    for model in SMALL:
        assert found[f"{model}: parties"]["equal"] and found[f"{model}: sockets"]["equal"]
        assert found[f"{model}: processes"]["seconds"] > 0
        assert all(row["party_ns"] > 0 and row["dealer_ns"] > 0 for row in found[f"{model}: gates"])
    assert found["emulation"]["equal"]
    page = text({"programs": {}, "measured": found})
    assert "Not measured" not in page and page.count("| mixed |") == 1 and "CrypTen's" in page


def test_what_does_not_fit_into_the_time_is_named() -> None:
    found = measure(HOST, None, small=True, limit=0.5)
    assert "not reached" in found["emulation"] and "not reached" in found["mixed: processes"]
    assert text({"programs": {}, "measured": found})


def test_a_model_that_was_not_prepared_is_none() -> None:
    assert read(None, "vit_b") is None


def test_the_page_is_that_of_its_figures() -> None:
    page = (DOCS / "gpu.md").read_text(encoding="utf-8")
    assert f"{START}\n{text(known())}{END}" in page
    assert json.loads((DOCS / "gpu.json").read_text()) == known()
