"""The short form of `make fuzz` for bundles and plans: none may end but right, refused, or as the other model that it is."""

from __future__ import annotations

from benchmarks.fuzz_bundles import fuzz
from benchmarks.fuzz_page import COLUMNS, END, START, row, written


def test_no_mutated_bundle_or_plan_ends_in_a_traceback_a_hang_or_a_wrong_answer() -> None:
    found = list(fuzz(0.015))
    assert {kind: sum(one.kind == kind for _, one in found) for kind in ("bundle", "plan")} == {"bundle": 30, "plan": 6}
    assert [(one.kind, number, one.verdict, one.what) for number, one in found if one.verdict.isupper()] == []
    assert {one.verdict for _, one in found} >= {"refused", "accepted, right"}
    counted = {name for names in COLUMNS.values() for name in names}
    assert {one.verdict for _, one in found} <= counted


def test_the_page_keeps_what_it_does_not_write() -> None:
    first = written("# Security\n\nOther words.\n", {"ONNX": row("ONNX", [])})
    second = written(first + "\nMore.\n", {"bundle": row("bundle", [])})
    assert second.startswith("# Security\n\nOther words.\n") and second.endswith("\nMore.\n")
    table = second[second.index(START) : second.index(END)]
    assert "| ONNX | 0 |" in table and "| bundles, hashes made to fit | 0 |" in table
