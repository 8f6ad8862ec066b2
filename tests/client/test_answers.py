"""Last steps at the thin client: the table of `mpcc.ir.answers` in numpy and in JavaScript, and a service that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpcc.approximate import Plan
from mpcc.bundle import open_bundle
from mpcc.client.answers import TABLE, Answers
from mpcc.ir import answers as reference
from mpcc.runtime.executable import Executable
from tests.client.test_javascript import NODE, javascript
from tests.models.programs import SHAPE, program

SIZES = [(2, 3, 5), (1, 4)]
DOCUMENT: list[Any] = [
    [0, ["softmax", -1]], [0, ["log_softmax", 1]], [0, ["sigmoid"], ["scale", 2.5]], [0, ["argmax", 1, False]],
    [0, ["argmin", -1, True]], [0, ["largest", 2, -1, True]], [0, ["places", 3, 2, True]], [0, ["places", 2, 0, False]],
    [0, ["reshape", 6, -1], ["permute", 1, 0], ["softmax", 0]], [0, ["permute", 2, 0, -2]], [1], [1, ["largest", 1, 1, False]],
]  # fmt: skip


def opened() -> list[torch.Tensor]:
    return [torch.randn(shape, generator=torch.Generator().manual_seed(3)) for shape in SIZES]


def test_every_step_is_tried() -> None:
    assert {step[0] for _, *steps in DOCUMENT for step in steps} == set(TABLE) == set(reference.TABLE)


def test_the_numbers_are_those_of_the_party_that_is_a_client() -> None:
    values = opened()
    expected = reference.Answers.read(DOCUMENT, 2).of(values)
    found = Answers.read(DOCUMENT, SIZES).of([value.double().numpy() for value in values])
    for one, other in zip(found, expected, strict=True):
        assert one.shape == tuple(other.shape) and np.abs(one - other.double().numpy()).max() < 1e-6


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_same_in_javascript() -> None:
    values = [value.double().numpy() for value in opened()]
    given = [{"shape": list(value.shape), "values": value.reshape(-1).tolist()} for value in values]
    mine = Answers.read(DOCUMENT, SIZES).of(values)
    found = javascript(task="answers", opened=given, answers=DOCUMENT)["result"]["outputs"]
    for one, other in zip(mine, found, strict=True):
        assert list(one.shape) == other["shape"] and np.abs(one.reshape(-1) - other["values"]).max() < 1e-12


@pytest.mark.parametrize(
    "document",
    [
        [], {}, [0], [[2]], [[True]], [[0, ["eval", "1"]]], [[0, ["softmax"]]], [[0, ["softmax", 3]]], [[0, ["softmax", 1.0]]],
        [[0, ["places", 9, 1, True]]], [[0, ["places", 0, 1, True]]], [[0, ["reshape", 7]]], [[0, ["scale", float("nan")]]],
        [[0] + [["sigmoid"]] * 70], [[0, ["permute", 0, 1]]],
    ],
)  # fmt: skip
def test_a_document_that_means_nothing_is_refused(document: Any) -> None:
    with pytest.raises(ValueError):
        Answers.read(document, SIZES)


@pytest.mark.parametrize(
    ("steps", "top"), [([["softmax", -1]], 2), ([["argmax", -1, False]], 2), ([["places", 2, -1, True]], 2),
                       ([["largest", 2, -1, True]], 2), ([["argmin", -1, False]], 1), ([], 2)],
)  # fmt: skip
def test_the_class_that_is_named_first(steps: list[Any], top: int) -> None:
    values = np.array([[0.5, -1.0, 3.0, 2.0]])
    document = [[0, *steps]]
    assert Answers.read(document, [values.shape]).top([values]) == top
    if NODE is not None:
        given = [{"shape": [1, 4], "values": values.reshape(-1).tolist()}]
        assert javascript(task="answers", opened=given, answers=document)["result"]["top"] == top


def test_a_service_leaves_them_to_its_clients(tmp_path: Path) -> None:
    """Probabilities and a class, in Python and in JavaScript; the statement says that the client sees the logits."""
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    from tests.models.served import serving

    steps = [[0, ["softmax", -1]], [0, ["argmax", -1, False]]]
    Executable(program("mixed"), Plan({}, {reference.NOTE: steps})).save(tmp_path / "m.mpcc")
    with serving(open_bundle(tmp_path / "m.mpcc")) as trio:
        x = torch.randn(SHAPE)
        (logits,) = trio.emulated(x)
        with trio.client() as client:
            answer = client.ask(x.numpy())
            told = client.model.document["security"]
        assert np.abs(answer.outputs[0] - logits.softmax(-1).numpy()).max() < 5e-3
        assert np.abs(answer.opened[0] - logits.numpy()).max() < 5e-3
        assert (answer.outputs[1] == logits.argmax(-1).numpy()).all() and answer.label == str(answer.top)
        assert "softmax, argmax" in told["What the answers are computed of"]
        if NODE is not None:
            where = {"server": trio.url("server"), "helper": trio.url("helper")}
            (found,) = javascript(task="ask", inputs=[x.reshape(-1).tolist()], **where)["result"]
            assert np.abs(answer.outputs[0].reshape(-1) - found["values"]).max() < 5e-3 and found["top"] == answer.top
