"""The short form of `make fuzz`: an eighth of the mutated files, none of which may end but right or with an MpccError."""

from __future__ import annotations

from benchmarks.fuzz import fuzz


def test_no_mutated_file_ends_in_a_traceback_a_hang_or_a_wrong_answer() -> None:
    found = list(fuzz(0.125))
    assert len(found) > 330
    assert [(one.kind, number, one.verdict, one.what) for number, one in found if one.verdict.isupper()] == []
    assert sum("right" in one.verdict for _, one in found) > 20
