"""Rows, targets and ridge: what a solve is made of, each held against the operator or a direct computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc.compensate.descent import block_of
from mpcc.compensate.inputs import FULL, QUICK, Effort, parts_of
from mpcc.compensate.ridge import Normal
from mpcc.compensate.rows import as_matrix, as_weight, given_rows, read_rows, weight_of
from mpcc.compensate.targets import target_of
from mpcc.ir.nn import attribute

aten = torch.ops.aten


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4), (1, 5, 6)),
        (nn.Linear(6, 4), (2, 6)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), (1, 4, 9, 7)),
        (nn.Conv2d(4, 8, 3, dilation=2, groups=2), (2, 4, 8, 8)),
        (nn.Conv2d(4, 4, (2, 3), groups=4), (1, 4, 6, 6)),
        (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 9)),
    ],
)
def test_rows_times_the_weight_are_what_the_product_gives(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    graph = mpcc.transform(layer, (torch.randn(shape),), passes=[])
    (node,) = (node for node in graph.graph.nodes if weight_of(node) is not None)
    calls = torch.randn(3, *shape)
    weight, bias = (attribute(graph, str(node.args[place].target)) for place in (1, 2))
    given = given_rows(node, torch.stack([graph(call) for call in calls]))
    matrix = as_matrix(node, weight)
    torch.testing.assert_close(read_rows(node, calls) @ matrix + bias.reshape(len(matrix), 1, -1), given)
    assert torch.equal(as_weight(node, matrix), weight)


@pytest.mark.parametrize(
    "tail",
    [
        lambda x, y: x + y,
        lambda x, y: x - y.reshape(1, 6, 8).transpose(1, 2).reshape(1, 6, 8),
        lambda x, y: y.reshape(1, 2, 3, 8).permute(0, 2, 1, 3).reshape(1, 6, 8).roll((1, 2), (1, 2)) * 0.5 + x,
        lambda x, y: (y.flip(1) / 4 - x) + 2 * x,
        lambda x, y: (y + 2) * torch.linspace(1, 2, 8) + x,
        lambda x, y: y.tanh() + x,
    ],
)
def test_a_target_of_an_unchanged_model_is_the_product_itself(tail: Callable[[Tensor, Tensor], Tensor]) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return tail(x, self.layer(x.relu()))

    torch.manual_seed(0)
    graph = mpcc.transform(Sum(), (torch.randn(1, 6, 8),), passes=[])
    values: dict[Any, Tensor] = {}

    class Keep(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            values[n] = value = super().run_node(n)
            return value

    Keep(graph).run(torch.randn(1, 6, 8))
    (product,) = (node for node in graph.graph.nodes if node.target is aten.linear.default)
    target = target_of(product, {node: place for place, node in enumerate(graph.graph.nodes)})
    found = target.of(values[target.end][None], {node: value[None] for node, value in values.items() if node.op != "output"})
    torch.testing.assert_close(found[0], values[product])
    assert (target.end is product) == any(node.target is aten.tanh.default for node in graph.graph.nodes)


def test_ridge_finds_the_weights_and_stays_where_lambda_is_large() -> None:
    torch.manual_seed(0)
    features, right, old = torch.randn(2, 50, 5).double(), torch.randn(2, 5, 3).double(), torch.randn(2, 5, 3).double()
    shift = torch.randn(2, 3).double()
    normal = Normal.of(features[:, :20], features[:, :20] @ right + shift[:, None])
    normal = normal + Normal.of(features[:, 20:], features[:, 20:] @ right + shift[:, None])
    weight, bias = normal.solved(old, True, 1e-9)
    assert bias is not None
    torch.testing.assert_close(weight, right, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(bias, shift, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(normal.solved(old, True, 1e9)[0], old, atol=1e-6, rtol=1e-6)
    direct = (features @ old + 0.5 - features @ right - shift[:, None]).square().sum()
    assert normal.error(old, torch.full((2, 3), 0.5).double()) == pytest.approx(float(direct))


def test_features_that_are_all_zero_leave_the_weights_as_they_were() -> None:
    old = torch.ones(1, 2, 2).double()
    weight, bias = Normal.of(torch.zeros(1, 4, 2), torch.ones(1, 4, 2)).solved(old, True, 1e-3)
    assert torch.equal(weight, old)
    assert bias is not None
    assert torch.equal(bias, torch.ones(1, 2).double())


def test_equations_that_are_no_numbers_are_never_the_better_ones() -> None:
    broken = Normal.of(torch.full((1, 4, 2), torch.inf), torch.ones(1, 4, 2))
    weight, bias = broken.solved(torch.ones(1, 2, 2).double(), True, 1.0)
    assert broken.error(weight, bias) == float("inf")


def test_calls_that_judge_are_neither_fitted_nor_copied() -> None:
    graph = mpcc.transform(nn.Conv2d(1, 2, 3), (torch.zeros(1, 1, 28, 28),), passes=[])
    pictures = torch.arange(100.0).reshape(100, 1, 1, 1, 1).expand(100, 1, 1, 28, 28)
    parts = parts_of(graph, [pictures], FULL)
    assert parts is not None
    (column,) = parts.calls.columns
    assert len(column) == parts.calls.fit + parts.calls.tune + parts.judging == 100 + parts.own
    kept = set(column[parts.own :].mean((1, 2, 3, 4)).tolist())
    assert kept == set(map(float, range(100)))
    judging = set(column[-parts.judging :].amax((1, 2, 3, 4)).tolist())
    whole = column[: parts.own][[bool(call.min() == call.max()) for call in column[: parts.own]]]
    assert not judging & set(whole.amax((1, 2, 3, 4)).tolist())


def test_token_ids_and_small_sets_are_left_alone() -> None:
    graph = mpcc.transform(nn.Embedding(9, 4), (torch.zeros(1, 5, dtype=torch.long),), passes=[])
    parts = parts_of(graph, [torch.randint(0, 9, (64, 1, 5))], FULL)
    assert parts is not None
    assert (parts.own, len(parts.calls.columns[0])) == (0, 64)
    assert parts_of(graph, [torch.zeros(5, 1, 5, dtype=torch.long)], FULL) is None
    few = parts_of(graph, [torch.zeros(500, 1, 5, dtype=torch.long)], QUICK)
    assert few is not None
    assert len(few.calls.columns[0]) == QUICK.calls == Effort(96).calls


def test_a_block_is_what_leads_to_its_product_alone() -> None:
    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.first, self.second = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = x.tanh()
            return x + self.second(self.first(self.norm(x)).sigmoid())

    graph = mpcc.transform(Mlp(), (torch.randn(1, 4, 8),), passes=[])
    calls = {node for node in graph.graph.nodes if node.op == "call_function"}
    product = [node for node in graph.graph.nodes if node.target is aten.linear.default][-1]
    found = block_of(product, calls, calls)
    assert [node.target for node in found.nodes] == [
        aten.layer_norm.default, aten.linear.default, aten.sigmoid.default, aten.linear.default,
    ]  # fmt: skip
    assert [node.target for node in found.outside] == [aten.tanh.default]
