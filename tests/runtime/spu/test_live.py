"""SPU itself, where it is installed (make test-spu): right outputs, and the very counters that are committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mpcc.errors import UnsupportedOperator, UsageError
from tests.models.spu_cases import BLOCKS, PRIMITIVES, cases_of, graph_of, measure

pytestmark = pytest.mark.spu
COUNTERS = json.loads((Path(__file__).parent / "counters.json").read_text())["protocols"]
FASTEST = "block, 17 tokens of width 48, 3 heads"


@pytest.fixture(autouse=True)
def installed() -> None:
    pytest.importorskip("spu", reason="install it with: make test-spu")


@pytest.mark.parametrize("protocol", ["semi2k", "aby3"])
@pytest.mark.parametrize("name", sorted(cases_of("semi2k")))
def test_the_committed_counters_are_spus(name: str, protocol: str) -> None:
    assert measure(name, protocol) == COUNTERS[protocol]["cases"][name]


@pytest.mark.parametrize("protocol", ["semi2k", "aby3"])
def test_outputs_are_those_of_the_model(protocol: str) -> None:
    from mpcc.runtime.spu.simulate import run_spu

    graph, inputs = BLOCKS[FASTEST]()
    run = run_spu(graph, inputs, protocol)
    with torch.no_grad():
        expected = graph(*inputs)
    assert (run.outputs[0] - (expected[0] if isinstance(expected, tuple) else expected)).abs().max() < 0.01
    assert sum(row.bytes for row in run.rows.values()) == run.bytes


@pytest.mark.parametrize("name", sorted(set(PRIMITIVES) - {"less"}))
def test_primitives_are_right(name: str) -> None:
    from mpcc.runtime.spu.simulate import run_spu

    graph, inputs = PRIMITIVES[name]()
    (got,), (expected,) = run_spu(graph, inputs, "semi2k").outputs, graph(*inputs)
    assert got.shape == expected.shape
    error = ((got - expected).abs() / (1 + expected.abs())).max()
    assert error < (0.05 if name == "exp" else 0.01)  # SPU's exp is (1 + x / 256)^256: 3 % off at 2.8


def test_what_spu_cannot_do_is_refused() -> None:
    from mpcc.runtime.spu.simulate import run_spu

    graph, inputs = graph_of(torch.ops.aten.erf.default, (2, 3))
    with pytest.raises(UnsupportedOperator, match="aten.erf.default"):
        run_spu(graph, inputs, "semi2k")
    with pytest.raises(UsageError, match="SPU has no protocol called 'crypten'"):
        run_spu(graph, inputs, "crypten")
