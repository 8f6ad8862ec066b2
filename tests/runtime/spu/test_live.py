"""SPU itself, where it is installed (make test-spu): right outputs, and the very counters that are committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mpcc.errors import UnsupportedOperator, UsageError
from mpcc.ir import mpc
from mpcc.ir.value_range import Range
from mpcc.lowering.circuits import circuit_of
from mpcc.runtime.spu.running import predicted
from tests.models.spu_cases import BLOCKS, PRIMITIVES, cases_of, graph_of, measure

pytestmark = pytest.mark.spu
aten = torch.ops.aten
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


def wide(x: Any) -> Any:
    return aten.expand.default(x, [12, 33])


MOVED = {
    "onto the smaller factor": lambda x, y: mpc.mul(mpc.scale(x, 0.3), y),
    "from one factor to the next": lambda x, y: mpc.mul(mpc.mul(x, y), mpc.scale(y, 0.7)),
    "behind a sum": lambda x, y: mpc.sum(mpc.scale(x, 0.5), (-1,), True),
    "before a sum": lambda x, y: mpc.add(mpc.scale(x, 0.25), mpc.scale(y, 0.25)),
    "onto both summands": lambda x, y: mpc.mul(mpc.scale(mpc.add(x, y), 0.3), mpc.scale(y, 0.6)),
    "into a polynomial": lambda x, y: mpc.polynomial(mpc.scale(x, 0.3), (0.1, 0.2, 0.3)),
    "past a view": lambda x, y: mpc.scale(wide(mpc.scale(y, 0.3)), 0.7),
    "before an expansion": lambda x, y: mpc.scale(wide(y), 0.7),
    "a square of copies": lambda x, y: mpc.square(wide(y)),
    "a polynomial of copies": lambda x, y: mpc.polynomial(wide(y), (0.1, 0.2, 0.3)),
    "a product of copies": lambda x, y: mpc.mul(wide(y), wide(mpc.scale(y, 0.4))),
    "a comparison of copies": lambda x, y: mpc.select(mpc.less(wide(y), 0.4), x),
    "a bit of copies": lambda x, y: mpc.add(mpc.less(wide(y), 0.4), x),
}
"""What SPU's compiler does with products by constants, and with copies of a value."""


@pytest.mark.parametrize("name", sorted(MOVED))
def test_what_runs_is_what_was_priced(name: str) -> None:
    from mpcc.runtime.spu.simulate import run_circuit

    graph, inputs = graph_of(MOVED[name], (12, 33), (12, 1))
    for node in graph.graph.nodes:
        node.meta["range"] = Range(-4.0, 4.0, 1.0)
    circuit = circuit_of(graph, "semi2k").circuit
    run = run_circuit(circuit, {}, [x / one.scale for x, one in zip(inputs, circuit.inputs, strict=True)])
    expected, price = graph(*inputs)[0], predicted(circuit)
    torch.testing.assert_close(run.outputs[0] * circuit.outputs[0].scale, expected, atol=1e-3, rtol=1e-3)
    assert (run.bytes, run.sends) == (price.bytes, 2 * price.rounds)


def test_what_spu_cannot_do_is_refused() -> None:
    from mpcc.runtime.spu.simulate import run_spu

    graph, inputs = graph_of(torch.ops.aten.erf.default, (2, 3))
    with pytest.raises(UnsupportedOperator, match="aten.erf.default"):
        run_spu(graph, inputs, "semi2k")
    with pytest.raises(UsageError, match="SPU has no protocol called 'crypten'"):
        run_spu(graph, inputs, "crypten")
