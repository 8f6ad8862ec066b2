"""Every operator family: the canonical graph computes what torch computes, in canonical operators only (verify)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.attention.flex_attention as flex
import torch.nn.functional as F
from torch import nn

from mpcc.frontend import capture
from mpcc.ir.nn import operator_of

Function = Callable[..., Any]


class Wrapped(nn.Module):
    """A function of the input and of one parameter w [4, 4]."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x, self.w)


def check(model: nn.Module, shape: tuple[int, ...]) -> list[str]:
    """The names of the canonical operators that `model` becomes."""
    torch.manual_seed(1)
    x = torch.randn(shape)
    model.eval()
    with torch.no_grad():
        expected = model(x.clone())
    graph = capture(model, x)
    with torch.no_grad():
        made = graph(x)
    made, expected = (list(item) if isinstance(item, (tuple, list)) else [item] for item in (made, expected))
    for found, wanted in zip(made, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    operators = (operator_of(node) for node in graph.graph.nodes)
    return [operator.name for operator in operators if operator is not None]


IMAGE = (2, 4, 6, 6)
TOKENS = (2, 5, 4)

# what is written, the input's shape, the operators it becomes
BECOMES: dict[str, tuple[Function, tuple[int, ...], list[str]]] = {
    "identities": (lambda x, w: F.dropout(x.contiguous().clone(), 0.5, False).to(x.dtype).detach() + 0, TOKENS, []),
    "view of view": (lambda x, w: x.view(10, 4).unsqueeze(1).squeeze().flatten().reshape(5, 8), TOKENS, ["reshape"]),
    "transposes": (lambda x, w: x.transpose(1, 2).mT.movedim(0, 1), TOKENS, ["permute"]),
    "unbind": (lambda x, w: x.unbind(0)[1], TOKENS, ["select"]),
    "split": (lambda x, w: x.split([1, 4], 1)[1] + x.chunk(2, 1)[0][:, :1], TOKENS, ["slice", "slice", "slice", "add"]),
    "stack": (lambda x, w: torch.stack([x, x], 1), TOKENS, ["reshape", "reshape", "cat"]),
    "mm": (lambda x, w: x @ w, TOKENS, ["permute", "linear"]),
    "addmm": (lambda x, w: torch.addmm(w[0], x, w), (3, 4), ["permute", "select", "linear"]),
    "bmm": (lambda x, w: torch.bmm(x, x.mT), TOKENS, ["permute", "matmul"]),
    "square": (lambda x, w: x * x + x.square() + x**2, TOKENS, ["pow", "pow", "add", "pow", "add"]),
    "division": (lambda x, w: x / 4 / w[0], TOKENS, ["mul", "mul"]),
    "rsqrt": (lambda x, w: 1 / (x.abs() + 1).sqrt(), TOKENS, ["abs", "add", "rsqrt"]),
    "relu6": (lambda x, w: F.relu6(x), TOKENS, ["clamp"]),
    "clamp from 0": (lambda x, w: x.clamp(min=0), TOKENS, ["relu"]),
    "in place": (lambda x, w: F.relu_(x + 1).add_(2), TOKENS, ["add", "relu", "add"]),
    "pool to one": (lambda x, w: F.adaptive_avg_pool2d(x, 1), IMAGE, ["mean"]),
    "pool evenly": (lambda x, w: F.adaptive_avg_pool2d(x, 2), IMAGE, ["avg_pool2d"]),
    "bilinear": (lambda x, w: F.interpolate(x, scale_factor=2, mode="bilinear"), IMAGE, ["linear", "matmul"]),
    "nearest": (lambda x, w: F.interpolate(x, scale_factor=2), IMAGE,
                ["reshape", "expand", "reshape", "expand", "reshape"]),
    "constants fold": (lambda x, w: x + torch.arange(4.0).sin() * torch.meshgrid(torch.ones(4), indexing="ij")[0],
                       TOKENS, ["add"]),
    "weights fold": (lambda x, w: F.linear(x, (w - w.mean()) / w.std()), TOKENS, ["linear"]),
    "attention": (lambda x, w: F.scaled_dot_product_attention(x, x, x), TOKENS,
                  ["permute", "matmul", "mul", "softmax", "matmul"]),
}  # fmt: skip

EQUAL: dict[str, tuple[Function, tuple[int, ...]]] = {
    "einsum": (lambda x, w: torch.einsum("bhid,bhjd->bhij", x, x), (2, 3, 4, 5)),
    "einsum with dots": (lambda x, w: torch.einsum("...ij,jk->...ik", x, w), TOKENS),
    "einsum of three": (lambda x, w: torch.einsum("bij,jk,bkl->bil", x, w, x.mT), TOKENS),
    "einsum outer": (lambda x, w: torch.einsum("bi,bj->bij", x, x), (2, 3)),
    "einsum sums": (lambda x, w: torch.einsum("bijc->bc", x), (2, 3, 4, 5)),
    "vector products": (lambda x, w: (x @ w[0]) + w[0] @ x.mT, (5, 4)),
    "baddbmm": (lambda x, w: torch.baddbmm(x @ x.mT, x, x.mT, beta=0.5, alpha=2.0), TOKENS),
    "causal mask": (lambda x, w: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.7), TOKENS),
    "boolean mask": (lambda x, w: F.scaled_dot_product_attention(x, x, x, torch.eye(5).bool()), TOKENS),
    "float mask": (lambda x, w: F.scaled_dot_product_attention(x, x, x, torch.eye(5)), TOKENS),
    "masked_fill": (lambda x, w: (x @ x.mT).masked_fill(~torch.eye(5).bool(), -torch.inf).softmax(-1), TOKENS),
    "where": (lambda x, w: torch.where(torch.eye(5, 4).bool(), x, 3.0), TOKENS),
    "slice assignment": (lambda x, w: _assigned(x), TOKENS),
    "written weight": (lambda x, w: F.linear(x, _written(w)) + w[0], TOKENS),
    "written constant": (lambda x, w: _written_twice(x), TOKENS),
    "repeat": (lambda x, w: x.repeat(2, 1, 3), TOKENS),
    "repeat_interleave": (lambda x, w: x.repeat_interleave(3, 1), TOKENS),
    "roll": (lambda x, w: x.roll((1, -2), (1, 2)), TOKENS),
    "index": (lambda x, w: x[:, torch.tensor([3, 0, 3])] + x[:, [0, 1, 2]], TOKENS),
    "index by two": (lambda x, w: w[torch.tensor([[0, 1], [2, 2]]), torch.tensor([0, 3])] + x[:, :2, :2], TOKENS),
    "boolean index": (lambda x, w: x[:, torch.tensor([True, False, True, True, False])], TOKENS),
    "gather": (lambda x, w: x.gather(1, torch.tensor([[[0, 1, 2, 3]], [[4, 0, 0, 1]]])), TOKENS),
    "unfold": (lambda x, w: F.unfold(x, 3, dilation=1, padding=1, stride=2), IMAGE),
    "fold": (lambda x, w: F.fold(F.unfold(x, 3, padding=1), (6, 6), 3, padding=1), IMAGE),
    "fold evenly": (lambda x, w: F.fold(F.unfold(x, 2, stride=2), (6, 6), 2, stride=2), IMAGE),
    "tensor unfold": (lambda x, w: x.unfold(2, 3, 1).unfold(3, 2, 2), IMAGE),
    "pixel shuffle": (lambda x, w: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 3), IMAGE),
    "reflect": (lambda x, w: F.pad(x, (1, 2, 0, 1), mode="reflect"), IMAGE),
    "negative pad": (lambda x, w: F.pad(x, (-1, 2, 1, -2)), IMAGE),
    "pool unevenly": (lambda x, w: F.adaptive_avg_pool2d(x, (4, 5)), IMAGE),
    "pool with ceil": (lambda x, w: F.avg_pool2d(x, 4, 3, 1, ceil_mode=True, count_include_pad=False), IMAGE),
    "max pool": (lambda x, w: F.max_pool2d(x, 3, 2, 1) + F.adaptive_max_pool2d(x, 1), IMAGE),
    "max": (lambda x, w: x.amax(1) - x.max(1).values + x.amin((1, 2), keepdim=True)[:, 0], TOKENS),
    "bicubic": (lambda x, w: F.interpolate(x, (9, 4), mode="bicubic", align_corners=False), IMAGE),
    "bilinear aligned": (lambda x, w: F.interpolate(x, (9, 4), mode="bilinear", align_corners=True), IMAGE),
    "antialias": (lambda x, w: F.interpolate(x, (3, 4), mode="bilinear", antialias=True), IMAGE),
    "bilinear by a factor": (lambda x, w: F.interpolate(x, scale_factor=1.7, mode="bilinear"), IMAGE),
    "nearest down": (lambda x, w: F.interpolate(x, (4, 5)), IMAGE),
    "variance": (lambda x, w: x.var(1) + x.std(1, unbiased=False) + torch.var_mean(x, 1)[0], TOKENS),
    "normalize": (lambda x, w: F.normalize(x, dim=-1), TOKENS),
    "normalize a weight": (lambda x, w: F.linear(F.normalize(x, dim=-1), F.normalize(w, dim=-1)), TOKENS),
    "activations": (lambda x, w: F.mish(x) + F.elu(x) + F.selu(x) + F.softplus(x) + F.hardtanh(x), TOKENS),
    "more activations": (lambda x, w: F.hardswish(x) + F.hardsigmoid(x) + F.leaky_relu(x) + F.celu(x, 2.0), TOKENS),
    "gated": (lambda x, w: F.glu(x), TOKENS),
    "logarithms": (lambda x, w: F.log_softmax(x, 1) + F.logsigmoid(x) + x.logsumexp(1, keepdim=True), TOKENS),
    "powers": (lambda x, w: x**3 + (x.abs() + 1) ** 0.5 + (x.abs() + 1) ** -2 + 2**x, TOKENS),
    "numbers": (lambda x, w: 1 - x + torch.tensor(2.0) * x - torch.add(x, x, alpha=3) + torch.rsub(x, 2), TOKENS),
    "fourier": (lambda x, w: torch.view_as_real(torch.fft.fft2(x)), IMAGE),
    "max pool over time": (lambda x, w: F.max_pool3d(x, (2, 3, 3), 1, (0, 1, 1)), (2, 3, 4, 6, 6)),
    "mean pool over time": (lambda x, w: F.avg_pool3d(x, (2, 3, 1), (1, 3, 2)), (2, 3, 4, 6, 6)),
    "pad_sequence": (lambda x, w: nn.utils.rnn.pad_sequence([x[0], x[1, :3]], batch_first=True), TOKENS),
    "dynamic convolution": (lambda x, w: F.conv2d(x, x[:, :, :3, :3].reshape(4, 2, 3, 3), groups=2, padding=1), IMAGE),
    "cumsum": (lambda x, w: x.cumsum(1), TOKENS),
    "tril": (lambda x, w: (x @ x.mT).tril() + (x @ x.mT).triu(1), TOKENS),
    "diagonal": (lambda x, w: (x @ x.mT).diagonal(dim1=-2, dim2=-1), TOKENS),
    "norms": (lambda x, w: F.group_norm(x, 2) + F.instance_norm(x) + F.rms_norm(x, (6,)), IMAGE),
    "extremes": (lambda x, w: torch.maximum(x, x.roll(1, 1)) + torch.minimum(x, torch.tensor(0.3)), TOKENS),
    "no_grad": (lambda x, w: _no_grad(x), TOKENS),
    "prelu": (lambda x, w: F.prelu(x, w[0]), IMAGE),
    "like": (lambda x, w: torch.cat([torch.zeros_like(x), x.new_ones(2, 1, 4), x], 1), TOKENS),
    "scalar output": (lambda x, w: x.mean() + x.sum(), TOKENS),
    "weight as output": (lambda x, w: (x, w.t()), TOKENS),
}  # fmt: skip


def _assigned(x: torch.Tensor) -> torch.Tensor:
    whole = torch.zeros(2, 7, 4)
    whole[:, 1:6] = x
    whole[:, 0] = x[:, 2] * 2
    return whole


def _written(w: torch.Tensor) -> torch.Tensor:
    copy = w.clone()
    copy[1:3].zero_()
    copy.view(-1)[0].mul_(3)
    return copy


def _written_twice(x: torch.Tensor) -> torch.Tensor:
    mask = torch.zeros(5, 4)
    first = x * mask
    mask[1:, 2] = 1
    second = x * mask
    mask.add_(2)
    return first + second * 2 + x * mask


def _no_grad(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = x * 2
    with torch.autocast("cpu", enabled=False):
        return y.float() + x


def test_masks_stay_numbers() -> None:
    """Minus infinity, in whatever way a model says it, becomes a score that fixed point can hold."""
    for least in (-torch.inf, torch.finfo(torch.float32).min, -1e9):
        mask = torch.full((5, 5), least).triu(1)
        for function in (
            lambda x, w, mask=mask: (x @ x.mT + mask).softmax(-1),
            lambda x, w, mask=mask, least=least: (x @ x.mT).masked_fill(mask < 0, least).softmax(-1),
            lambda x, w, mask=mask: F.scaled_dot_product_attention(x, x, x, mask),
        ):
            check(Wrapped(function), TOKENS)
            graph = capture(Wrapped(function), torch.randn(TOKENS))
            assert min(float(buffer.min()) for buffer in graph.buffers()) == -100


@pytest.mark.parametrize("name", BECOMES)
def test_becomes(name: str) -> None:
    function, shape, operators = BECOMES[name]
    assert check(Wrapped(function), shape) == operators


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name: str) -> None:
    check(Wrapped(EQUAL[name][0]), EQUAL[name][1])


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "multihead attention": (lambda: SelfAttention(), (2, 5, 8)),
    "flex attention": (lambda: FlexAttention().requires_grad_(False), (2, 4, 5, 16)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), (2, 5, 8)),
    "encoder": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), 2), (5, 2, 8)),
    "conv batch norm": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), trained(nn.BatchNorm2d(6))), IMAGE),
    "linear batch norm": (lambda: nn.Sequential(nn.Linear(6, 5), trained(nn.BatchNorm1d(5))), (3, 6)),
    "batch norm alone": (lambda: nn.Sequential(nn.ReLU(), trained(nn.BatchNorm2d(4))), IMAGE),
    "transposed batch norm": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2), trained(nn.BatchNorm2d(6))), IMAGE),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2, dilation=2), IMAGE),
    "transposed to patches": (lambda: nn.ConvTranspose3d(4, 2, 2, 2), (1, 4, 2, 3, 3)),
    "transposed and cut": (lambda: nn.ConvTranspose1d(4, 2, 2, 3, 2), (1, 4, 7)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(4, 3, 3, padding="same"), trained(nn.BatchNorm1d(3))), (2, 4, 7)),
    "conv even same": (lambda: nn.Conv2d(4, 4, 4, padding="same", groups=4), IMAGE),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), TOKENS),
    "unfold module": (lambda: nn.Sequential(nn.Unfold(2, stride=2), nn.Flatten()), IMAGE),
}  # fmt: skip


class FlexAttention(nn.Module):
    """A learned bias by distance, a window of keys, two query heads for each key head."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(4, 9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def score(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
            return score * 2 + self.bias[head, query - key + 4]

        def near(batch: Any, head: Any, query: Any, key: Any) -> Any:
            return (query - key).abs() <= 2

        blocks = flex.create_block_mask(near, None, None, 5, 5, device="cpu")
        return flex.flex_attention(x, x[:, :2], x[:, 2:], score, blocks, scale=0.3, enable_gqa=True)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed, weights = self.attention(x, x, x, need_weights=True)
        return mixed + self.attention(x, x, x, need_weights=False)[0] + weights.mean()


def trained(norm: nn.Module) -> nn.Module:
    """With statistics that are not those of a fresh layer."""
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)  # type: ignore[arg-type]
    nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    return norm


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    torch.manual_seed(0)
    make, shape = MODULES[name]
    operators = check(make(), shape)
    if "batch norm" in name and name != "batch norm alone":
        assert not {"mul", "add"} & set(operators)


class Recurrent(nn.Module):
    """The tokens of Sequencer: an LSTM in both directions."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, num_layers=2, **options)

    def forward(self, x: torch.Tensor) -> Any:
        y, (h, c) = self.lstm(x)
        return y, h, c


@pytest.mark.parametrize("options", [{"batch_first": True, "bidirectional": True}, {"bias": False}])
def test_lstm(options: dict[str, bool]) -> None:
    found = check(Recurrent(**options), TOKENS)
    assert {"sigmoid", "tanh", "linear"} <= set(found)


def test_embedding_by_secret_numbers() -> None:
    table, places = nn.Embedding(7, 3), torch.tensor([[0, 6, 3]])
    graph = capture(table, places)
    torch.testing.assert_close(graph(places), table(places))
    assert list(dict(graph.named_parameters())) == ["weight"]
