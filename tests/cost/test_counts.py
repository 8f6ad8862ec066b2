"""Op counts: stable text, and a comparison that says what rose and where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpcc.cost import Estimate, OpCounts, SiteCost, table_of_regressions
from mpcc.errors import UsageError


def estimate(**bytes_at: int) -> Estimate:
    rows = [SiteCost(f"blocks.{site}", "blocks", "softmax", 3, size, 0.1) for site, size in bytes_at.items()]
    return Estimate("p", "lan", 3 * len(rows), sum(bytes_at.values()), 0.1 * len(rows), sites=tuple(rows))


GOLDEN = """{
  "format": "mpcc op counts 1",
  "protocol": "p",
  "rounds": 6,
  "bytes": 30,
  "failure_probability": 1e-09,
  "primitives": {
    "softmax": 2
  },
  "sites": {
    "blocks.a": {"bytes": 20, "kind": "softmax", "rounds": 3},
    "blocks.b": {"bytes": 10, "kind": "softmax", "rounds": 3}
  }
}
"""


def test_the_text_is_stable_and_comes_back() -> None:
    counts = OpCounts.of(estimate(b=10, a=20), failure_probability=1e-9)
    assert counts.to_json() == GOLDEN
    assert OpCounts.from_json(GOLDEN) == counts
    assert counts.compare(OpCounts.from_json(GOLDEN)) == []


def test_a_rise_is_named_with_its_site() -> None:
    committed, now = OpCounts.of(estimate(a=20, b=10)), OpCounts.of(estimate(a=20, b=15, c=1))
    regressions = now.compare(committed)
    assert [str(regression) for regression in regressions] == [
        "total online: rounds 6 -> 9",
        "total online: bytes 30 -> 36",
        "primitive softmax: calls 2 -> 3",
        "site blocks.b: bytes 10 -> 15",
        "site blocks.c: rounds 0 -> 3",
        "site blocks.c: bytes 0 -> 1",
    ]
    assert table_of_regressions(regressions).row_count == 6
    assert committed.compare(now) == []


def test_a_tolerance_lets_small_rises_pass() -> None:
    committed, now = OpCounts.of(estimate(a=100)), OpCounts.of(estimate(a=104))
    assert now.compare(committed, tolerance=0.05) == []
    assert now.compare(committed, tolerance={"rounds": 0.05}) != []


def test_counts_of_another_model_or_protocol_are_not_compared() -> None:
    """Half of the sites in common is a model that changed; less is another model, even where nothing rose."""
    one = OpCounts.of(estimate(a=100, b=10))
    with pytest.raises(UsageError, match="of another model: only 1 of 3 sites are the same"):
        one.compare(OpCounts.of(estimate(a=100, x=500, y=500)))
    with pytest.raises(UsageError, match="of another model: only 0 of 2 sites"):
        one.compare(OpCounts.of(estimate(x=500)))
    assert one.compare(OpCounts.of(estimate(a=100, b=10, c=10, d=10))) == []
    with pytest.raises(UsageError, match="of the protocol 'q', not 'p'"):
        one.compare(replace(one, protocol="q"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "other"}', GOLDEN.replace('"bytes": 20', '"bytes": "many"')]
)
def test_another_file_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a file of op counts"):
        OpCounts.from_json(text, where="op-counts.json")


def test_counts_under_a_former_name_of_the_protocol_can_be_compared_with() -> None:
    committed = OpCounts.of(replace(estimate(a=20), protocol="former"))
    assert OpCounts.of(estimate(a=20), aliases=("former",)).compare(OpCounts.from_json(committed.to_json())) == []
    with pytest.raises(UsageError, match="'former'"):
        OpCounts.of(estimate(a=20)).compare(committed)
