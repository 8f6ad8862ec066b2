"""What the client computes of its opened outputs: cut off the model, carried in the plan, applied wherever outputs come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mpcc
from mpcc.errors import PlanError
from mpcc.ir.answers import Answers
from mpcc.rewrite.answers import cut_answers


class Head(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.function = nn.Linear(6, 8), nn.Linear(8, 5), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.b(F.gelu(self.a(x))))


CUT: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "softmax": (lambda t: t.softmax(-1), ("softmax",)),
    "of scaled logits": (lambda t: (0.5 * t).softmax(-1).reshape(-1), ("softmax",)),
    "log-softmax": (lambda t: F.log_softmax(t, 1), ("log_softmax",)),
    "argmax": (lambda t: t.argmax(-1), ("argmax",)),
    "argmax of everything": (lambda t: t.argmax(), ("argmax",)),
    "top-2": (lambda t: t.topk(2), ("largest", "places")),
    "smallest 3": (lambda t: t.topk(3, largest=False), ("largest", "places")),
    "in order": (lambda t: t.sort(descending=True)[1], ("places",)),
    "both": (lambda t: (t, t.softmax(-1), torch.sigmoid(t)), ("softmax", "sigmoid")),
    "class of probabilities": (lambda t: t.softmax(-1).max(-1), ("softmax", "argmax")),
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut(name: str) -> None:
    function, names = CUT[name]
    model, x = Head(function).eval(), torch.randn(2, 6)
    graph = mpcc.capture(model, (x,))
    rest, answers = cut_answers(graph)
    assert answers is not None and set(names) <= {*answers.names, "softmax"}
    again = Answers.read(json.loads(json.dumps(answers.document())), 9)
    assert again == answers
    opened = rest(x)
    found = again.of([opened] if isinstance(opened, Tensor) else opened)
    want = model(x)
    for mine, theirs in zip(found, [want] if isinstance(want, Tensor) else want, strict=True):
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-4, atol=1e-5)
    if name != "class of probabilities":
        assert not [node for node in rest.graph.nodes if node.meta.get("site") and "gelu" not in node.meta["site"]]


KEPT: dict[str, Callable[..., Any]] = {
    "logits": lambda t: t,
    "read by a product": lambda t: (lambda p: (p, p @ t.T))(t.softmax(-1)),
    "one token of many": lambda t: F.layer_norm(t, (5,))[:, 0],
    "used inside": lambda t: t * t.argmax(-1, keepdim=True),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not(name: str) -> None:
    graph = mpcc.capture(Head(KEPT[name]).eval(), (torch.randn(2, 6),))
    rest, answers = cut_answers(graph)
    assert rest is graph and answers is None


def test_outputs_are_those_of_the_model(tmp_path: Path) -> None:
    model = Head(lambda t: (t.softmax(-1), t.argmax(-1))).eval()
    images = torch.randn(3, 6)
    made, hidden = (mpcc.optimize(model, (images[:1],), hide_logits=hide) for hide in (False, True))
    assert int(made.estimate.rounds) < int(hidden.estimate.rounds)
    assert made.answers == ("softmax", "argmax") and hidden.answers == ()
    made.save(tmp_path / "b")
    executable = mpcc.load(tmp_path / "b")
    run = executable.run(images[:1])
    for found, count in ((executable.emulate(images), 3), (run.outputs, 1)):
        torch.testing.assert_close(found[0], model(images[:count])[0], rtol=0, atol=1e-2)
        assert torch.equal(found[1], model(images[:count])[1])
    assert [tuple(one.shape) for one in run.opened] == [(1, 5)]
    assert "learns the values before them" in (tmp_path / "b" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "document",
    [[], [[1, ["softmax", -1]]], [[0, ["exec", "x"]]], [[0, ["softmax", "-1"]]], [[0, ["softmax"]]], "softmax", [[True]]],
)
def test_a_damaged_note_is_refused(document: Any) -> None:
    with pytest.raises(PlanError):
        Answers.read(document, 1)


def test_answers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(PlanError, match="does not fit"):
        Answers.read([[0, ["softmax", 7]]], 1).of([torch.zeros(2, 3)])
