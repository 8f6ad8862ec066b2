"""Cost against tokens: what is proven of the shapes, what is exact, and what is refused rather than guessed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mpcc
from mpcc.cost import estimate_graph
from mpcc.errors import UsageError
from mpcc.frontend import capture
from mpcc.ir.nn import shape_of
from mpcc.ir.tokens import Tokens, stretched, tokens_of
from mpcc.registry import protocol
from tests.models.vit_lite import VisionTransformer, randomize


def vit(image: int = 24, **sizes: Any) -> VisionTransformer:
    """A ViT of one block, by default of 9 patches and a class token."""
    small = {"width": 24, "depth": 1, "heads": 2, "hidden": 40, "classes": 7}
    return randomize(VisionTransformer(image=image, patch=8, **{**small, **sizes})).eval()


def captured(model: nn.Module, image: int = 24) -> torch.fx.GraphModule:
    return capture(model, (torch.zeros(1, 3, image, image),))


@pytest.fixture(scope="module")
def made() -> mpcc.Optimized:
    return mpcc.optimize(vit(), (torch.zeros(1, 3, 24, 24),), machine="reference")


def test_a_stretched_model_is_the_model_of_that_size() -> None:
    """9 patches and a class token against 25 and one: every shape, and with them every price."""
    small, large = captured(vit()), captured(vit(40), 40)
    assert tokens_of(small) == Tokens(10, 1)
    copy = stretched(small.graph, Tokens(10, 1), 26)
    shapes = [
        [shape_of(node) for node in graph.nodes if node.target is not torch.ops.aten.convolution.default and node.op != "output"]
        for graph in (copy, large.graph)
    ]
    first = next(i for i, shape in enumerate(shapes[0]) if 26 in shape)
    assert shapes[0][first:] == shapes[1][first:]
    stock = protocol("crypten-stock")
    found, wanted = (estimate_graph(torch.fx.GraphModule(small, graph), stock, "wan") for graph in (copy, large.graph))
    assert found.rounds == wanted.rounds and found.bytes == pytest.approx(wanted.bytes, rel=0.02)


def test_the_models_own_row_is_exact_and_others_grow(made: mpcc.Optimized) -> None:
    growth = made.growth
    assert growth.here == 10 and [one.tokens for one in growth.sizes] == [5, 10, 20, 40]
    own = growth.sizes[1]
    assert (own.after.rounds, own.after.bytes, own.after.seconds) == (
        made.estimate.rounds, made.estimate.bytes, made.estimate.seconds,
    )  # fmt: skip
    assert (own.before.rounds, own.before.bytes) == (made.baseline.rounds, made.baseline.bytes)
    for name in ("before", "after"):
        amounts = [getattr(one, name).bytes for one in growth.sizes]
        assert 1.5 < amounts[3] / amounts[2] < 4  # most grow with the tokens, attention with their square, the class token not


def test_close_to_a_model_that_is_compiled_at_that_size(made: mpcc.Optimized) -> None:
    """The same layers for 25 patches: as many rounds, and bytes within 3 %."""
    assert made.terms is not None
    (found,) = made.terms.growth(made.program, [26]).sizes
    large = mpcc.optimize(vit(40), (torch.zeros(1, 3, 40, 40),), machine="reference").estimate
    assert found.after.bytes == pytest.approx(large.bytes, rel=0.03)
    assert abs(found.after.rounds - large.rounds) <= 2


def test_the_report_has_a_row_for_each_size(made: mpcc.Optimized, tmp_path: Path) -> None:
    text = (made.save(tmp_path / "x.mpcc") / "report.html").read_text(encoding="utf-8")
    part = text.partition("<h2>Cost against tokens</h2>")[2].partition("<h2>")[0]
    assert "<td>10 (this model)</td>" in part and "<td>40</td>" in part and part.count("<svg") == 1
    assert part.count("\u2248") == 9  # three rows of three estimates


class Windows(nn.Module):
    """Attention within halves of the tokens, whose number is tied to the layout."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windows = x.reshape(2, 8, 12)
        return ((windows @ windows.transpose(1, 2)).softmax(-1) @ windows).reshape(1, 16, 12)


class Halves(nn.Module):
    """The larger of two halves of the tokens, as a tree of comparisons has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x @ x.transpose(1, 2)).softmax(-1) @ x
        return torch.maximum(x[:, :8], x[:, 8:])


class Pooled(nn.Module):
    """Attention over all tokens, then over a pooled half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x @ x.transpose(1, 2)).softmax(-1) @ x
        y = x.reshape(1, 8, 2, 12).mean(2)
        return (y @ y.transpose(1, 2)).softmax(-1) @ y


@pytest.mark.parametrize(
    ("model", "example", "why"),
    [
        (nn.Sequential(nn.Linear(4, 8), nn.GELU()), (1, 4), "no softmax over tokens"),
        (vit(width=20), (1, 3, 24, 24), "tied to 10 tokens"),
        (vit(classes=10), (1, 3, 24, 24), "10 is the number of its tokens and a width"),
        (Windows(), (1, 16, 12), "tied to 8 tokens"),
        (Halves(), (1, 16, 12), "a part of its 16 tokens"),
        (Pooled(), (1, 16, 12), "rows of different lengths"),
    ],
    ids=["mlp", "heads", "classes", "windows", "halves", "pooled"],
)
def test_what_is_not_certain_is_refused(model: nn.Module, example: tuple[int, ...], why: str) -> None:
    graph = capture(model.eval(), (torch.zeros(example),))
    with pytest.raises(UsageError) as error:
        tokens_of(graph)
    assert re.search(why, error.value.what), error.value
