"""A circuit as text: written and read again, and refused where it is anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mpcc.errors import BundleError
from mpcc.ir.circuit import Circuit, Given, Opened, Ref, Step
from mpcc.lowering.circuits import FUNCTIONS, graph_of
from mpcc.runtime.spu.job import PARTIES

CIRCUIT = Circuit(
    "aby3", 18, (Given("x", (2, 3), 4.0),), (Given("w", (5, 3)),),
    (Step("mpc.linear", (Ref(0), Ref(1), None)), Step("aten.expand.default", (Ref(2), (2, 5)), {"implicit": False})),
    (Opened(3, 0.5),),
)  # fmt: skip


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CIRCUIT.to_json())
    return found


def test_it_is_read_as_it_was_written() -> None:
    assert Circuit.from_json(CIRCUIT.to_json(), "circuit.json") == CIRCUIT
    assert tuple(graph_of(CIRCUIT).graph.output_node().args[0][0].meta["val"].shape) == (2, 5)


CHANGES: dict[str, Any] = {
    "another format": {"format": "mpcc circuit 9"},
    "no fraction bits": {"fraction_bits": 60},
    "a field more": {"run": "x"},
    "an unknown operation": {"nodes": [["os.system", ["true"], {}]]},
    "a gate": {"nodes": [["mpc.curve", [{"value": 0}], {}]]},
    "a value after it": {"nodes": [["mpc.square", [{"value": 2}], {}]]},
    "a value that is a number": {"nodes": [["mpc.square", [{"value": True}], {}]]},
    "an argument that is an object": {"nodes": [["mpc.square", [{"code": "1"}], {}]]},
    "an output that does not exist": {"outputs": [{"value": 9, "scale": 1.0}]},
    "a scale of nothing": {"outputs": [{"value": 0, "scale": 0}]},
    "a negative size": {"inputs": [{"name": "x", "shape": [-1], "scale": 1.0}]},
    "a huge size": {"inputs": [{"name": "x", "shape": [1 << 20, 1 << 20], "scale": 1.0}]},
    "a name that steers": {"inputs": [{"name": "\x1b[2J", "shape": [1], "scale": 1.0}]},
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="circuit.json: damaged"):
        Circuit.from_json(json.dumps({**document(), **CHANGES[name]}), "circuit.json")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"format": NaN}'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(BundleError):
        Circuit.from_json(text, "circuit.json")


@pytest.mark.parametrize(
    "step",
    [
        Step("mpc.matmul", (Ref(0), Ref(0))),
        Step("mpc.square", ("x",)),
        Step("mpc.square", (Ref(0),), {"surprise": 1}),
        Step("aten.reshape.default", (Ref(0), (7, 7))),
        Step("mpc.polynomial", (Ref(0), ())),
    ],
)
def test_operations_that_do_not_fit_are_refused(step: Step) -> None:
    circuit = Circuit("aby3", 18, CIRCUIT.inputs, (), (step,), (Opened(1, 1.0),))
    with pytest.raises(BundleError, match="does not fit"):
        graph_of(circuit)


def test_spu_and_lowering_know_the_same_operations() -> None:
    from mpcc.ir.circuit import OPERATIONS

    assert set(FUNCTIONS) == OPERATIONS and set(PARTIES) == {"semi2k", "aby3", "cheetah"}
