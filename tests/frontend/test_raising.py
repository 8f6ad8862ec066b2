"""Decompositions in every form seen in the wild become one site; near misses stay, and say why."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpcc.errors import MpccError
from mpcc.frontend import capture
from mpcc.frontend.raising import explain
from mpcc.ir.nn import operator_of, sites
from tests.frontend.test_canonical import IMAGE, TOKENS, Wrapped, check

FORMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], list[str]]] = {
    "gelu": (lambda x, w: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), ["gelu"]),
    "gelu, factors moved": (lambda x, w: x * ((torch.erf(x / 1.41421354) + 1.0) * 0.5), ["gelu"]),
    "gelu, spread out": (lambda x, w: 0.5 * x + 0.5 * x * torch.erf(0.70710678 * x), ["gelu"]),
    "gelu by erfc": (lambda x, w: x * torch.erfc(-x / math.sqrt(2)) / 2, ["gelu"]),
    "gelu of a sum": (lambda x, w: (lambda y: 0.5 * y * (1 + torch.erf(y / 2**0.5)))(x + w[0]), ["add", "gelu"]),
    "gelu by tanh": (
        lambda x, w: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ["gelu"],
    ),
    "fast gelu": (lambda x, w: 0.5 * x * (1 + torch.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x))), ["gelu"]),
    "quick gelu": (lambda x, w: x * torch.sigmoid(1.702 * x), ["mul", "silu", "mul"]),
    "silu": (lambda x, w: x * x.sigmoid(), ["silu"]),
    "silu by exp": (lambda x, w: x / (1 + torch.exp(-x)), ["silu"]),
    "sigmoid": (lambda x, w: 1 / (1 + torch.exp(-x)), ["sigmoid"]),
    "hardswish": (lambda x, w: x * F.relu6(x + 3) / 6, ["hardswish"]),
    "hardswish by hardsigmoid": (lambda x, w: x * F.hardsigmoid(x), ["hardswish"]),
    "hardsigmoid": (lambda x, w: (x / 6 + 0.5).clamp(0, 1), ["hardsigmoid"]),
    "mish": (lambda x, w: x * torch.tanh(F.softplus(x)), ["mish"]),
    "softplus": (lambda x, w: torch.log(1 + torch.exp(x)), ["softplus"]),
    "softmax": (lambda x, w: x.exp() / x.exp().sum(-1, keepdim=True), ["softmax"]),
    "safe softmax": (lambda x, w: _safe_softmax(x, 1), ["softmax"]),
    "layer norm": (
        lambda x, w: _layer_norm(x, -1, 1e-5) * w[0] + w[1],
        ["layer_norm", "mul", "add"],
    ),
    "layer norm by std": (
        lambda x, w: (x - x.mean(-1, True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-6),
        ["layer_norm"],
    ),
    "layer norm by square": (
        lambda x, w: (x - x.mean(-1, True)) * torch.rsqrt(x.pow(2).mean(-1, True) - x.mean(-1, True) ** 2 + 1e-3),
        ["layer_norm"],
    ),
    "softmax, axes given back": (lambda x, w: _flat_softmax(x), ["softmax"]),
    "layer norm, axes given back": (lambda x, w: _flat_layer_norm(x), ["layer_norm"]),
    "rms norm": (lambda x, w: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6), ["rms_norm"]),
    "normalize": (lambda x, w: F.normalize(x, dim=-1), ["rms_norm", "mul"]),
    "normalize times root": (lambda x, w: F.normalize(x, dim=-1) * 2.0, ["rms_norm"]),
    "normalize along tokens": (lambda x, w: F.normalize(x, dim=1), ["permute", "rms_norm", "mul", "permute"]),
}


def _flat_softmax(x: Tensor) -> Tensor:
    """As jax.nn.softmax is exported."""
    e = (x - x.amax(-1).unsqueeze(-1)).exp()
    return e / e.sum(-1).reshape(*x.shape[:-1], 1)


def _flat_layer_norm(x: Tensor) -> Tensor:
    """As flax computes it: the variance by squares, not below 0, before its axis is given back."""
    mean = x.mean(-1)
    variance = ((x * x).mean(-1) - mean * mean).relu()
    return (x - mean.unsqueeze(-1)) * torch.rsqrt(variance.unsqueeze(-1) + 1e-3)


def _layer_norm(x: Tensor, dim: int, eps: float) -> Tensor:
    centred = x - x.mean(dim, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(dim, keepdim=True) + eps)


def _safe_softmax(x: Tensor, dim: int) -> Tensor:
    grown = torch.exp(x - x.amax(dim, keepdim=True))
    return grown / grown.sum(dim, keepdim=True)


@pytest.mark.parametrize("name", FORMS)
def test_raised(name: str) -> None:
    function, operators = FORMS[name]
    found = check(Wrapped(function), TOKENS)
    assert [item for item in found if item != "select"] == operators


def test_channels_first_layer_norm() -> None:
    assert check(Wrapped(lambda x, w: _layer_norm(x, 1, 1e-6)), IMAGE) == ["permute", "layer_norm", "permute"]


class Flax(nn.Module):
    """flax's LayerNorm: the variance by squares, its axis given back, the weight in the factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.rand(TOKENS[-1]) + 0.5), nn.Parameter(torch.rand(TOKENS[-1]))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1)
        variance = ((x * x).mean(-1) - mean * mean).relu()
        return (x - mean.unsqueeze(-1)) * (torch.rsqrt(variance.unsqueeze(-1) + 1e-3) * self.scale) + self.bias


def test_a_weight_in_the_factor_is_absorbed() -> None:
    assert check(Flax(), TOKENS) == ["layer_norm"]


def test_epsilon_is_read_off() -> None:
    for eps in (1e-3, 1e-5, 1e-6, 1e-12):
        graph = capture(Wrapped(lambda x, w, eps=eps: _layer_norm(x, -1, eps)), torch.randn(TOKENS))
        (node,) = sites(graph).values()
        assert node.args[4] == pytest.approx(eps)


def test_parameters_are_absorbed() -> None:
    class Norm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = torch.nn.Parameter(torch.randn(4)), torch.nn.Parameter(torch.randn(4))
            self.matrix = torch.nn.Parameter(torch.randn(4, 3))
            self.shift = torch.nn.Parameter(torch.randn(3))

        def forward(self, x: Tensor) -> Tensor:
            return (_layer_norm(x, -1, 1e-5) * self.weight + self.bias) @ self.matrix + self.shift

    assert check(Norm(), TOKENS) == ["layer_norm", "permute", "linear"]


NEAR_MISSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str, str]] = {
    "gelu with 1.4 for sqrt 2": (lambda x, w: x * 0.5 * (1 + torch.erf(x / 1.4)), "erf", "close to gelu"),
    "gelu with a small cube": (
        lambda x, w: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.04 * x**3))),
        "tanh",
        "close to gelu_tanh",
    ),
    "hardswish of 2.9": (lambda x, w: x * (x + 2.95).clamp(0, 6) / 6, "clamp", "close to hardswish"),
    "layer norm with unbiased variance": (
        lambda x, w: (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) * 0.77 + 1e-5).sqrt(),
        "rsqrt",
        "close to layer_norm",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_stay_and_say_why(name: str) -> None:
    function, site, why = NEAR_MISSES[name]
    check(Wrapped(function), TOKENS)
    graph = capture(Wrapped(function), torch.randn(TOKENS))
    assert {operator_of(node).name for node in sites(graph).values()} == {site}  # type: ignore[union-attr]
    assert any(why in line and "off by" in line for line in explain(graph)), explain(graph)


def test_a_gate_is_not_a_silu() -> None:
    assert check(Wrapped(lambda x, w: (x + 1) * x.sigmoid()), TOKENS) == ["add", "sigmoid", "mul"]


def test_what_others_read_stays() -> None:
    def both(x: Tensor, w: Tensor) -> Tensor:
        gate = torch.sigmoid(x)
        return x * gate + gate

    assert sorted(check(Wrapped(both), TOKENS)) == ["add", "sigmoid", "silu"]


def test_made_by_says_which_rule() -> None:
    graph = capture(Wrapped(lambda x, w: x * x.sigmoid()), torch.randn(TOKENS))
    assert sites(graph)["silu"].meta["made_by"] == ("raise_silu",)


def test_a_region_that_gives_nan_is_no_known_function() -> None:
    """Where it is not a number it is not equal to anything."""

    class Power(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor(-1.7) ** x

    with pytest.raises(MpccError, match="NaN"):
        capture(Power(), torch.randn(3))
