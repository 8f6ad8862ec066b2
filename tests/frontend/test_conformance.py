"""The short form of `python -m benchmarks.conformance`: a part of ONNX's node tests and of PyTorch's operators."""

from __future__ import annotations

import pytest

from benchmarks.conformance import SUITES, judge


@pytest.mark.parametrize(("suite", "step", "right"), [("onnx", 9, 110), ("torch", 40, 8)])
@pytest.mark.filterwarnings("ignore")
def test_cases_of_others_are_right_or_refused(suite: str, step: int, right: int) -> None:
    if suite == "torch":
        pytest.importorskip("expecttest", reason="OpInfo imports it")
    found = [judge(case) for case in SUITES[suite](step)]
    assert [one for one in found if one.kind.isupper()] == []
    assert sum(one.kind == "right" for one in found) >= right
