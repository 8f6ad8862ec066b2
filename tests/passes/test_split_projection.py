"""split_projection: when a joint product becomes several, and when not."""

from __future__ import annotations

import pytest
import torch

from tests.models.graphs import calls, changed_by, graph_of, rewritten, shapes

aten = torch.ops.aten
W, B = torch.randn(12, 4), torch.randn(12)


def three(reshape, permute, dim=0):  # type: ignore[no-untyped-def]
    def function(x, fc_weight, fc_bias):  # type: ignore[no-untyped-def]
        packed = aten.reshape.default(aten.linear.default(x, fc_weight, fc_bias), reshape)
        packed = aten.permute.default(packed, permute)
        q, k, v = (aten.select.int(packed, dim, i) for i in range(3))
        return q, k, v

    return graph_of(lambda **p: sum_of(function(**p)), {"x": (2, 5, 4)}, fc_weight=W, fc_bias=B)


def sum_of(parts):  # type: ignore[no-untyped-def]
    """Tells the parts apart: a + 2 b + 3 c."""
    total = None
    for i, part in enumerate(parts):
        part = aten.mul.Tensor(part, i + 1.0)
        total = part if total is None else aten.add.Tensor(total, part)
    return total


@pytest.mark.parametrize(
    ("reshape", "permute", "dim"),
    [
        ([2, 5, 3, 2, 2], [2, 0, 3, 1, 4], 0),  # timm
        ([2, 5, 2, 3, 2], [3, 0, 2, 1, 4], 0),  # the three inside each head
        ([2, 5, 2, 2, 3], [0, 2, 1, 3, 4], 4),  # the three inside each channel
        ([2, 5, 3, 4], [0, 1, 2, 3], 2),
    ],
)
def test_selects_of_a_joint_product(reshape: list[int], permute: list[int], dim: int) -> None:
    after = rewritten(three(reshape, permute, dim), "split_projection")
    assert shapes(after, aten.linear.default) == [(2, 5, 4)] * 3
    assert not calls(after, aten.select.int)
    assert sorted(dict(after.named_parameters())) == [f"fc.part{i}.{p}" for i in range(3) for p in ("bias", "weight")]
    assert all(n.meta["made_by"] == ("split_projection",) for n in calls(after, aten.linear.default))


def test_slices_of_unequal_size_without_bias() -> None:
    def function(x, fc_weight):  # type: ignore[no-untyped-def]
        y = aten.linear.default(x, fc_weight)
        wide, narrow = aten.slice.Tensor(y, 2, 0, 8), aten.slice.Tensor(y, -1, 8, 12)
        return aten.mul.Tensor(aten.slice.Tensor(wide, 2, 0, 4), narrow)

    after = rewritten(graph_of(function, {"x": (2, 5, 4)}, fc_weight=W), "split_projection")
    assert shapes(after, aten.linear.default) == [(2, 5, 4), (2, 5, 4)]


def test_channels_that_nothing_reads_disappear() -> None:
    def function(x, fc_weight, fc_bias):  # type: ignore[no-untyped-def]
        return aten.slice.Tensor(aten.linear.default(x, fc_weight, fc_bias), 2, 3, 8)

    after = rewritten(graph_of(function, {"x": (2, 5, 4)}, fc_weight=W, fc_bias=B), "split_projection")
    assert shapes(after, aten.linear.default) == [(2, 5, 5)]


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(
            lambda y: aten.add.Tensor(aten.slice.Tensor(y, 2, 0, 6), aten.slice.Tensor(y, 2, 3, 9)), id="overlap"
        ),
        pytest.param(
            lambda y: aten.add.Tensor(aten.mean.dim(y, [2], True), aten.slice.Tensor(y, 2, 0, 6)), id="read whole"
        ),
        pytest.param(lambda y: aten.select.int(y, 1, 0), id="a token"),
        pytest.param(lambda y: aten.slice.Tensor(aten.reshape.default(y, [2, 60]), 1, 0, 12), id="tokens and channels"),
        pytest.param(lambda y: aten.reshape.default(y, [2, 5, 3, 4]), id="no slice"),
    ],
)
def test_not(function) -> None:  # type: ignore[no-untyped-def]
    graph = graph_of(lambda x, fc_weight: function(aten.linear.default(x, fc_weight)), {"x": (2, 5, 4)}, fc_weight=W)
    assert not changed_by(graph, "split_projection")
