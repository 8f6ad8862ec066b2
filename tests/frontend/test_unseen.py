"""Small models of many kinds, none of which mpcc was written for: captured right, some of them also right in fixed point.

Each is a function of one image as tokens [1, 8, 12] (and of what it asks for beside it), with layers to use at will.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mpcc
from mpcc import capture
from mpcc.errors import CaptureError

TOKENS, WIDTH, HEADS = 8, 12, 3
SEEN = torch.tensor([[True] * 6 + [False] * 2])
CAUSAL = torch.ones(TOKENS, TOKENS).tril().bool()
ANGLES = torch.outer(torch.arange(8.0), 10.0 ** -torch.arange(2.0))
CIS = torch.polar(torch.ones(8, 2), ANGLES)
BIG = torch.finfo(torch.float32).min

Core = Callable[[Tensor, Tensor, Tensor], Tensor]


class Kit(nn.Module):
    """Layers that the functions below use, and `attend`: a block of attention around a core of [1, heads, tokens, 4] each."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.one, self.two, self.wide = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 24)
        self.qkv, self.norm, self.heads = nn.Linear(12, 36), nn.LayerNorm(12), nn.Linear(HEADS, HEADS)
        self.attention = nn.MultiheadAttention(12, HEADS, batch_first=True)
        self.scale = nn.Parameter(torch.tensor(0.4))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("cache", torch.zeros(1, 10, 12))

    def attend(self, x: Tensor, core: Core) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).reshape(1, TOKENS, 3, HEADS, 4).permute(2, 0, 3, 1, 4)
        return x + self.one(core(q, k, v).transpose(1, 2).reshape(1, TOKENS, WIDTH))

    def forward(self, *args: Tensor) -> Any:
        return self.function(self, *args)


def by_scores(change: Callable[[Tensor], Tensor], softmax: Callable[[Tensor], Tensor] = lambda s: s.softmax(-1)) -> Core:
    return lambda q, k, v: softmax(change(q @ k.mT * 0.5)) @ v


def halves(t: Tensor) -> Tensor:
    angles = torch.cat([ANGLES, ANGLES], -1)
    a, b = t.chunk(2, -1)
    return t * angles.cos() + torch.cat((-b, a), -1) * angles.sin()


def pairs(t: Tensor) -> Tensor:
    turned = torch.stack([-t[..., 1::2], t[..., ::2]], -1).reshape(t.shape)
    return t * ANGLES.repeat_interleave(2, -1).cos() + turned * ANGLES.repeat_interleave(2, -1).sin()


def turned(t: Tensor) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(t.reshape(*t.shape[:-1], 2, 2)) * CIS).flatten(-2)


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return (q @ (k.mT @ v)) / (q @ k.sum(-2, keepdim=True).mT + 1e-6)


def spelt_softmax(scores: Tensor) -> Tensor:
    e = (scores - scores.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def written(m: Kit, x: Tensor) -> Tensor:
    m.cache[:, 1:9] = m.one(x)
    return (x @ m.cache.mT).softmax(-1) @ m.cache


def counted(m: Kit, x: Tensor) -> Tensor:
    m.count += 1
    return m.one(x) * m.count


def places(m: Kit, x: Tensor) -> Tensor:
    return m.one(x[:, torch.nonzero(m.one.weight[0, :8] > -9.0).squeeze(1)])


X = torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(3))
KINDS: dict[str, Callable[..., Any]] = {
    "causal": lambda m, x: m.attend(x, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.7)),
    "triangle of infinities": lambda m, x: m.attend(x, by_scores(lambda s: s + torch.full((8, 8), -math.inf).triu(1))),
    "masked_fill": lambda m, x: m.attend(x, by_scores(lambda s: s.masked_fill(~CAUSAL, BIG))),
    "where": lambda m, x: m.attend(x, by_scores(lambda s: torch.where(CAUSAL, s, torch.tensor(-1e9)))),
    "grouped heads": lambda m, x: F.scaled_dot_product_attention(
        m.wide(x)[..., :16].reshape(1, 8, 4, 4).transpose(1, 2), m.one(x)[..., :8].reshape(1, 8, 2, 4).transpose(1, 2),
        m.two(x)[..., :8].reshape(1, 8, 2, 4).transpose(1, 2),
        enable_gqa=True,
    ),
    "nn attention": lambda m, x: m.attention(x, x, x, need_weights=True),
    "einsum": lambda m, x: m.attend(x, lambda q, k, v: torch.einsum(
        "bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1), v)),
    "einsum of three": lambda m, x: torch.einsum("...nd,de,ef->...nf", x, m.one.weight, m.two.weight),
    "einsum by numbers": lambda m, x: torch.einsum(x, [0, 1, 2], m.one.weight, [3, 2], [0, 3, 1]),
    "rope in halves": lambda m, x: m.attend(x, lambda q, k, v: by_scores(lambda s: s)(halves(q), halves(k), v)),
    "rope in pairs": lambda m, x: m.attend(x, lambda q, k, v: by_scores(lambda s: s)(pairs(q), pairs(k), v)),
    "complex rope": lambda m, x: m.attend(x, lambda q, k, v: by_scores(lambda s: s)(turned(q), turned(k), v)),
    "cosines": lambda m, x: m.attend(x, lambda q, k, v: by_scores(lambda s: s * m.scale.exp())(
        F.normalize(q, dim=-1), F.normalize(k, dim=-1), v)),
    "learned temperature": lambda m, x: m.attend(x, by_scores(lambda s: s * m.scale)),
    "linear attention": lambda m, x: m.attend(x, linear_attention),
    "sigmoid attention": lambda m, x: m.attend(x, by_scores(lambda s: s - math.log(8), torch.sigmoid)),
    "relu attention": lambda m, x: m.attend(x, by_scores(lambda s: s, lambda s: F.normalize(F.relu(s), p=1.0, dim=-1))),
    "spelt softmax": lambda m, x: m.attend(x, by_scores(lambda s: s, spelt_softmax)),
    "talking heads": lambda m, x: m.attend(x, by_scores(
        lambda s: m.heads(s.permute(0, 2, 3, 1)), lambda s: m.heads(s.softmax(-2)).permute(0, 3, 1, 2))),
    "quick gelu": lambda m, x: (t := m.one(x)) * torch.sigmoid(1.702 * t),
    "learned swish": lambda m, x: (t := m.one(x)) * torch.sigmoid(m.two.bias * t),
    "scaled gelu": lambda m, x: 1.7 * F.gelu(m.one(x), approximate="tanh"),
    "star relu": lambda m, x: 0.8944 * F.relu(m.one(x)) ** 2 - 0.4472,
    "gates": lambda m, x: F.glu(m.wide(x)) + F.silu(m.wide(x)[..., :12]) * m.wide(x)[..., 12:] + F.relu6(x),
    "kinks": lambda m, x: F.rrelu(m.one(x)) + F.celu(x, 0.7) + F.selu(x) + F.hardtanh(F.mish(x), -1, 1.5) + F.logsigmoid(x),
    "own norm": lambda m, x: (x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + 1e-5) * m.two.bias,
    "norms": lambda m, x: F.rms_norm(x, (12,)) + F.normalize(m.one(x), dim=-1) + F.group_norm(x, 4),
    "tanh norm": lambda m, x: m.one(torch.tanh(m.scale * x) * m.two.bias + m.one.bias),
    "layer used thrice": lambda m, x: m.one(m.norm(m.one(m.norm(m.one(x))))),
    "weight used as a table": lambda m, x: F.gelu(m.one(x)) @ m.one.weight,
    "buffer that counts": counted,
    "buffer that is written": written,
    "written in place": lambda m, x: (y := m.one(x)).mul_(0.5).add_(1)[:, 1:3].zero_() is not None and y.relu_(),
    "places of a weight": places,
    "rows of a mask": lambda m, x: m.one(x[:, SEEN[0]]),
    "index_put": lambda m, x: torch.zeros(1, 8, 12).index_put((torch.tensor([0, 0]), torch.tensor([1, 5])), m.one(x)[0, :2]),
    "vmap": lambda m, x: torch.vmap(lambda t: m.one(t).softmax(-1) @ t.mT)(x),
    "distances": lambda m, x: torch.cdist(m.one(x), m.two.weight[None]) + torch.cdist(x, m.two.weight[None], p=1.0),
    "uneven maxima": lambda m, x: F.adaptive_max_pool2d(x, (3, 5)),
    "uneven maxima along a line": lambda m, x: F.adaptive_max_pool1d(x, 5),
    "mixture": lambda m, x: (m.heads(x[..., :3]).softmax(-1)[..., None] * torch.stack([m.one(x), m.two(x), x], -2)).sum(-2),
    "largest only": lambda m, x: F.one_hot(m.one(x).argmax(-1), 12).float() @ m.one.weight,
    "running sum": lambda m, x: torch.cumsum(x, 1).flip(1).roll((1, 2), (1, 2)).tril(),
    "named outputs": lambda m, x: {"logits": m.one(x), "rest": [x * 2, (x.mean(),)]},
}  # fmt: skip
FLAT = torch.utils._pytree.tree_leaves


def gap(found: Any, wanted: Any) -> float:
    """The largest difference of any output, relative to that output's spread; shapes are the same."""
    mine, theirs = FLAT(found), FLAT(wanted)
    assert [item.shape for item in mine] == [item.shape for item in theirs]
    pairs_ = [(a.double(), b.double()) for a, b in zip(mine, theirs, strict=True)]
    return max(float((a - b).abs().max() / (b.std() if b.numel() > 1 else b.abs())) for a, b in pairs_)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_kinds_are_captured(kind: str) -> None:
    graph = capture(Kit(KINDS[kind]).eval(), X)
    assert gap(graph(X), Kit(KINDS[kind]).eval()(X)) < 1e-4


MASKED: dict[str, Callable[..., Any]] = {
    "bits": lambda m, x, mask: m.attend(x, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask[:, None, None])),
    "and": lambda m, x, mask: m.attend(x, by_scores(lambda s: s.masked_fill(~(mask[:, None, None] & CAUSAL), -math.inf))),
    "added": lambda m, x, mask: m.attend(x, by_scores(lambda s: s + (1.0 - mask[:, None, None].to(s.dtype)) * BIG)),
    "where": lambda m, x, mask: torch.where(mask[..., None], m.one(x), -x) + (~mask)[..., None] * x,
    "mean": lambda m, x, mask: m.one((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)),
}


@pytest.mark.parametrize("kind", MASKED)
@torch.no_grad()
def test_masks_are_captured(kind: str) -> None:
    model = Kit(MASKED[kind]).eval()
    assert gap(capture(model, (X, SEEN))(X, SEEN.float()), model(X, SEEN)) < 1e-4


@pytest.mark.parametrize("kind", ["talking heads", "linear attention", "complex rope", "distances", "uneven maxima"])
@torch.no_grad()
def test_kinds_are_right_in_fixed_point(kind: str) -> None:
    model = Kit(KINDS[kind]).eval()
    assert gap(mpcc.compile(model, X).emulate(X), model(X)) < 0.02


def test_one_number_comes_back_as_one() -> None:
    model = Kit(lambda m, x: m.one(x).mean()).eval()
    compiled = mpcc.compile(model, X)
    assert compiled.emulate(X).shape == () and compiled.emulate(torch.cat([X, X])).shape == (2,)


@pytest.mark.parametrize("made", ["scripted", "quantised"])
@pytest.mark.filterwarnings("ignore")
def test_parts_whose_operators_nobody_sees_are_refused_by_name(made: str) -> None:
    if made == "scripted":
        model = nn.Sequential(nn.GELU(), torch.jit.script(nn.Linear(12, 12)))
    else:
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.GELU(), nn.Linear(12, 12)), {nn.Linear}, torch.qint8)
    with pytest.raises(CaptureError, match="TorchScript|packed whole numbers") as caught:
        capture(model, X)
    assert caught.value.where == "layer 1"
