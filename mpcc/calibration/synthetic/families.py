"""Inputs of every kind, as two families: `fitted` for ranges, `judging` to see what leaves them.

    fitted(kind, count, generator)     [count, *kind.shape], in kind.dtype
    judging(kind, count, generator)    likewise, drawn otherwise

Pictures are in `pictures`; token ids, masks and features are short enough to stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .kinds import Kind
from .pictures import composed, fractal

Family = Callable[[int, tuple[int, ...], float, float, torch.Generator], Tensor]
HEAVY = 2.0
"""How much louder one channel in sixteen of a feature is: trained features have a few channels that stand out."""
CONTRASTS = (0.7, 1.0, 1.4)
"""Of features, which nothing tells the size of: about standard normal, as what leaves a norm is."""


def fitted(kind: Kind, count: int, generator: torch.Generator) -> Tensor:
    """The family that ranges are fitted to."""
    return _drawn(kind, count, generator, composed, _smooth_features, _repeated_ids)


def judging(kind: Kind, count: int, generator: torch.Generator) -> Tensor:
    """The family that chose nothing."""
    return _drawn(kind, count, generator, fractal, _sparse_features, _uniform_ids)


def _drawn(
    kind: Kind, count: int, generator: torch.Generator, pictures: Family, features: Family, ids: Family
) -> Tensor:
    if not kind.shape:  # a single number
        return _drawn(replace(kind, shape=(1,)), count, generator, pictures, features, ids).reshape(count)
    if kind.kind == "mask":
        made = _prefix_mask(count, kind.shape, generator)
    elif kind.kind == "tokens":
        made = ids(count, kind.shape, kind.low, kind.high, generator)
    elif kind.picture:
        made = _pictures(kind, count, generator, pictures)
    else:
        made = features(count, kind.shape, kind.low, kind.high, generator)
    return made.round().to(kind.dtype) if not kind.dtype.is_floating_point else made.to(kind.dtype)


def _pictures(kind: Kind, count: int, generator: torch.Generator, family: Family) -> Tensor:
    """As many pictures as a call holds, laid out as the input is; the frames of a video are one picture that moves."""
    shape = kind.shape
    if kind.kind == "video":
        channels_first = shape[1] in (1, 2, 3, 4)
        channels, frames = (shape[1], shape[2]) if channels_first else (shape[2], shape[1])
        still = family(count * shape[0], (channels, *shape[3:]), kind.low, kind.high, generator)
        moving = torch.stack([still.roll(frame, -1) for frame in range(frames)], 2 if channels_first else 1)
        return moving.reshape(count, *shape)
    batch = shape[0] if len(shape) == 4 else 1
    if not kind.channels_last:
        return family(count * batch, shape[-3:], kind.low, kind.high, generator).reshape(count, *shape)
    height, width, channels = shape[-3:]
    drawn = family(count * batch, (channels, height, width), kind.low, kind.high, generator)
    return drawn.permute(0, 2, 3, 1).reshape(count, *shape)


def _prefix_mask(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Ones up to a random length along the last dimension: what is padded to a common length looks so."""
    length = shape[-1]
    seen = torch.randint(max(1, length // 4), length + 1, (count, *shape[:-1], 1), generator=generator)
    seen[::3] = length
    return (torch.arange(length) < seen).float()


def _uniform_ids(count: int, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.randint(int(low), int(high) + 1, (count, *shape), generator=generator).double()


def _repeated_ids(count: int, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """A few ids often, the others seldom, as in any language: rank r with a share near 1 / r."""
    ranks = torch.exp(torch.rand((count, *shape), generator=generator) * torch.tensor(high - low + 1).log())
    order = torch.randperm(int(high - low) + 1, generator=generator)
    return low + order[(ranks.long() - 1).clamp(0, len(order) - 1)].double()


def _smooth_features(count: int, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Rows that resemble their neighbours: normal numbers, mixed along the dimension before the last."""
    drawn = torch.randn((count, *shape), generator=generator)
    if len(shape) > 2:
        common = torch.randn((count, *shape[:-2], 1, shape[-1]), generator=generator)
        drawn = 0.7 * drawn + 0.7 * common
    loud = torch.ones(shape[-1])
    loud[::16] = HEAVY
    contrast = torch.tensor(CONTRASTS)[torch.arange(count) % len(CONTRASTS)].reshape(count, *[1] * len(shape))
    return _sized(drawn * loud * contrast, low, high)


def _sparse_features(count: int, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Laplace numbers of variance 1: mostly small, now and then large."""
    drawn = torch.randn((count, *shape), generator=generator).sign()
    return _sized(drawn * torch.empty((count, *shape)).exponential_(2**0.5, generator=generator), low, high)


def _sized(drawn: Tensor, low: float, high: float) -> Tensor:
    """Numbers of variance about 1, so that `low` and `high` are four standard deviations from the middle."""
    return ((low + high) / 2 + drawn * ((high - low) / 8)).clamp(low, high)
