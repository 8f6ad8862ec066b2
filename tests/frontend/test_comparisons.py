"""Comparisons, logic and masks of secret values: the number 0 or 1, whatever their spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mpcc
from mpcc.errors import UnsupportedOperator


class Of(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.function = nn.Linear(4, 4), function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def straight_through(x: Tensor) -> Tensor:
    """GroupViT's hard assignment: the gradient is the softmax's, the value one-hot."""
    soft = x.softmax(-2)
    hard = torch.zeros_like(soft).scatter_(-2, soft.max(-2, keepdim=True)[1], 1.0)
    return hard - soft.detach() + soft


def test_an_argmax_is_compared_once() -> None:
    """What scatters at it, or makes it one-hot, takes the comparisons that it was made of."""
    model = Of(lambda m, x: straight_through(m.layer(x)) + F.one_hot(m.layer(x).argmax(-2), 3).float().transpose(-1, -2))
    names = [str(node.target) for node in mpcc.transform(model.eval(), (X,)).graph.nodes]
    assert sum("step" in name for name in names) <= 4


X, Y = (torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
Y[0, :2] = X[0, :2]
FLOATS: dict[str, Callable[..., Any]] = {
    "greater": lambda m, x, y: x > y,
    "at least": lambda m, x, y: (x >= y).float() * x,
    "less than a number": lambda m, x, y: (x < 0.3).sum(-1),
    "equal": lambda m, x, y: x == y,
    "unequal": lambda m, x, y: (x != y) & (x > 0),
    "logic": lambda m, x, y: torch.logical_xor(x > 0, y > 0) | ~(x > 1),
    "chosen": lambda m, x, y: torch.where(x > y, x, 2 * y),
    "a number chosen": lambda m, x, y: torch.where(x > 0, 1.5, y),
    "numbers chosen": lambda m, x, y: torch.where(x > 0, 1.5, -2.0),
    "filled": lambda m, x, y: x.masked_fill(y < 0, 0.5),
    "any": lambda m, x, y: (x > 1).any(-1),
    "all": lambda m, x, y: (x > -1).all(0, keepdim=True),
    "sign": lambda m, x, y: torch.sign(x),
    "threshold": lambda m, x, y: F.threshold(x, 0.4, -1.0),
    "hard shrink": lambda m, x, y: F.hardshrink(x, 0.7),
    "soft shrink": lambda m, x, y: F.softshrink(x, 0.7),
    "largest": lambda m, x, y: y * m.layer(x).argmax(-1, keepdim=True),
    "hard assignment by scatter": lambda m, x, y: straight_through(m.layer(x)) @ m.layer.weight,
    "hard assignment along another axis": lambda m, x, y: y.scatter(-2, m.layer(x).argmax(-2, keepdim=True), 3.0),
    "the largest left out": lambda m, x, y: x.scatter(-1, x.argmax(-1, keepdim=True), -torch.inf).softmax(-1),
    "written at a secret place": lambda m, x, y: y.scatter(-1, m.layer(x).max(-1, keepdim=True)[1], x.sum(-1, keepdim=True)),
    "hard assignment": lambda m, x, y: F.one_hot(x.argmax(-1), 4).float() @ m.layer.weight,
    "smallest with its place": lambda m, x, y: x.min(1),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOATS)
def test_of_floats(name: str) -> None:
    model = Of(FLOATS[name]).eval()
    found, want = mpcc.capture(model, (X, Y))(X, Y), model(X, Y)
    several = isinstance(found, tuple)
    for mine, theirs in zip(found if several else [found], want if several else [want], strict=True):
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-5, atol=1e-6)


SMALLEST = torch.finfo(torch.float32).min
LENGTHS = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])


def attended(m: nn.Module, x: Tensor, bias: Tensor) -> Tensor:
    return (x @ x.transpose(1, 2) + bias).softmax(-1) @ x


MASKS: dict[str, tuple[Callable[..., Any], torch.dtype]] = {
    "where, minus infinity": (lambda m, x, k: attended(m, x, torch.where(k[:, None], 0.0, -torch.inf)), torch.bool),
    "where on scores": (
        lambda m, x, k: torch.where(k[:, None], x @ x.transpose(1, 2), torch.tensor(SMALLEST)).softmax(-1) @ x, torch.bool),
    "masked_fill": (lambda m, x, k: (x @ x.transpose(1, 2)).masked_fill(~k[:, None, :], SMALLEST).softmax(-1) @ x, torch.bool),
    "masked_fill of zeros": (
        lambda m, x, k: (x @ x.transpose(1, 2)).masked_fill(k[:, None, :] == 0, float("-inf")).softmax(-1) @ x, torch.int64),
    "additive": (lambda m, x, k: attended(m, x, (1.0 - k[:, None, :].float()) * SMALLEST), torch.int64),
    "additive of floats": (lambda m, x, k: attended(m, x, (1.0 - k[:, None, :]) * -1e9), torch.float32),
    "to bool": (lambda m, x, k: F.scaled_dot_product_attention(x, x, x, k.to(torch.bool)[:, None, :]), torch.int64),
    "expanded": (lambda m, x, k: F.scaled_dot_product_attention(x, x, x, k[:, None, :].expand(-1, 5, 5)), torch.bool),
    "causal too": (
        lambda m, x, k: F.scaled_dot_product_attention(x, x, x, k[:, None, :] & (torch.ones(5, 5).tril() > 0)), torch.bool),
    "key padding": (
        lambda m, x, k: m.attention(x, x, x, key_padding_mask=~k, need_weights=False)[0], torch.bool),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_secret_masks(name: str) -> None:
    function, dtype = MASKS[name]
    model = Of(function)
    model.attention = nn.MultiheadAttention(4, 2, batch_first=True)
    model.eval()
    x, keep = torch.randn(2, 5, 4), LENGTHS.to(dtype)
    graph = mpcc.capture(model, (x, keep))
    assert all(node.meta["val"].dtype == torch.float32 for node in graph.graph.nodes if node.op == "placeholder")
    torch.testing.assert_close(graph(x, keep.float()), model(x, keep), rtol=1e-4, atol=1e-4)


def test_a_secret_mask_runs_in_fixed_point() -> None:
    model = Of(lambda m, x, k: m.layer(F.scaled_dot_product_attention(x, x, x, k[:, None, :]))).eval()
    x, keep = torch.randn(2, 5, 4), LENGTHS.bool()
    found = mpcc.optimize(model, (x, keep)).executable().emulate(x, keep.float(), check=False)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, model(x, keep), rtol=0, atol=3e-2)


def test_comparisons_run_in_fixed_point() -> None:
    model = Of(lambda m, x: torch.where(m.layer(x) > 0.1, m.layer(x), 2 * x) + m.layer(x).argmax(-1, keepdim=True)).eval()
    found = mpcc.optimize(model, (X,)).executable().emulate(X, check=False)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, model(X), rtol=0, atol=1e-2)


REFUSED: dict[str, Callable[..., Any]] = {
    "aten.floor": lambda m, x: x.floor(),
    "with infinity": lambda m, x: x > torch.inf,
    "comes to an output": lambda m, x: x.masked_fill(x > 0, -torch.inf) + 1,
    "guards aten.log": lambda m, x: torch.where(x > 0, x * torch.log(x), 0.0),
    "guards aten.reciprocal": lambda m, x: torch.where(x.abs() > 0.1, 1 / x, x),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_has_no_form_is_named(why: str) -> None:
    function = REFUSED[why]
    with pytest.raises(UnsupportedOperator, match=why):
        mpcc.capture(Of(function).eval(), (X,))
