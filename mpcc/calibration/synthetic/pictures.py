"""Pictures that nobody took: two families, one to calibrate on and one to judge what was calibrated.

A family is a function (count, shape, low, high, generator) -> float32 [count, *shape], with values in [low, high] as a
normalised picture has them. `composed` is what ranges are fitted to: coarse grids enlarged, shapes, strokes, saturated
patches and ground levels. `fractal` chose nothing: noise with the spectrum of natural images, ramps with edges, glyphs.
Why such inputs stand for photographs, and how well: docs/data-free.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

CONTRASTS = (0.5, 1.0, 2.0)
"""Of a grid's normal numbers: pale, as normalised pictures are on average, and saturated at both ends of the range."""


def composed(count: int, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Enlarged grids of normal numbers on a ground level; every third one with a shape, every fourth with strokes."""
    made = [_composed(number, shape, low, high, generator) for number in range(count)]
    return torch.stack(made).clamp(low, high)


def fractal(count: int, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """In turn: noise whose amplitude falls with the frequency, a ramp with an edge, glyph-like strokes on paper."""
    kinds = (_spectrum, _ramp, _glyphs)
    made = [kinds[number % len(kinds)](shape, generator) for number in range(count)]
    return torch.stack([_stretched(one, low, high, generator) for one in made])


def _composed(number: int, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    channels, height, width = shape
    middle, half = (low + high) / 2, (high - low) / 2
    side = int(_between(2, max(3, max(height, width) // 2), generator))
    grid = torch.randn(1, channels, side, side, generator=generator)
    if _chance(0.5, generator):  # grey, as most of a picture's contrast is common to its channels
        grid = grid[:, :1] + 0.3 * grid
    mode = "bilinear" if _chance(0.5, generator) else "nearest"
    picture = F.interpolate(grid, (height, width), mode=mode)[0]
    contrast = CONTRASTS[number % len(CONTRASTS)]
    picture = picture * contrast * half / 2 + middle + (2 * float(torch.rand((), generator=generator)) - 1) * 0.8 * half
    if number % 3 == 0:
        picture = torch.where(_shape(height, width, generator), low if _chance(0.5, generator) else high, picture)
    if number % 4 == 1:
        paper, ink = (low, high) if _chance(0.5, generator) else (high, low)
        ground = torch.full(shape, paper) if _chance(0.5, generator) else picture
        picture = torch.where(_strokes(height, width, generator), ink, ground)
    return picture


def _shape(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A bar or an ellipse, [height, width] bool."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    y, x = (_between(-0.7, 0.7, generator) for _ in range(2))
    tall, wide = (_between(0.1, 0.8, generator) for _ in range(2))
    if _chance(0.5, generator):
        return ((rows - y).abs() < tall) & ((columns - x).abs() < wide)
    return ((rows - y) / tall).square() + ((columns - x) / wide).square() < 1


def _strokes(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Lines and arcs of a pen, as in writing and drawings, [height, width] bool."""
    scale = min(height, width)
    rows, columns = torch.meshgrid(torch.arange(height) / scale, torch.arange(width) / scale, indexing="ij")
    pen = _between(0.03, 0.09, generator) + 0.5 / scale
    drawn = torch.zeros(height, width, dtype=torch.bool)
    for _ in range(int(_between(2, 4 + 6 * max(height, width) / scale, generator))):
        y, x = _between(0, height / scale, generator), _between(0, width / scale, generator)
        if _chance(0.5, generator):
            angle, length = _between(0, math.pi, generator), _between(0.15, 0.6, generator)
            along = (rows - y) * math.sin(angle) + (columns - x) * math.cos(angle)
            across = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
            drawn |= (along.abs() < length / 2) & (across.abs() < pen)
        else:
            radius = _between(0.08, 0.3, generator)
            distance = ((rows - y).square() + (columns - x).square()).sqrt()
            drawn |= (distance - radius).abs() < pen
    return drawn


def _spectrum(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Gaussian noise whose amplitude falls with frequency^a, a in [0.7, 1.6]: 1 is that of natural images."""
    channels, height, width = shape
    frequency = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()).sqrt()
    frequency[0, 0] = 1.0
    weights = frequency ** -_between(0.7, 1.6, generator)
    weights[0, 0] = 0.0
    common, own = torch.randn(1, height, width, generator=generator), torch.randn(shape, generator=generator)
    picture: Tensor = torch.fft.irfft2(torch.fft.rfft2(common + 0.4 * own) * weights, s=(height, width))
    return picture


def _ramp(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A linear ramp of each channel, cut by one straight edge, with a little noise."""
    channels, height, width = shape
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    slopes = torch.randn(2, channels, 1, 1, generator=generator)
    ramp = slopes[0] * rows + slopes[1] * columns
    angle = _between(0, math.pi, generator)
    side = rows * math.sin(angle) + columns * math.cos(angle) > _between(-0.6, 0.6, generator)
    step = torch.randn(channels, 1, 1, generator=generator) * 2
    return ramp + side * step + 0.05 * torch.randn(shape, generator=generator)


def _glyphs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A row of small random bitmaps of 5 x 7 dots, dark on light or light on dark."""
    channels, height, width = shape
    columns = max(1, round(width / height * _between(1, 4, generator)))
    dots = (torch.rand(1, 1, 7, 6 * columns, generator=generator) < 0.45).float()
    dots[..., 5::6] = 0.0
    dots = F.pad(dots, (1, 1, 1, 1))
    picture = F.interpolate(dots, (height, width), mode="bilinear" if _chance(0.5, generator) else "nearest")[0]
    picture = picture if _chance(0.5, generator) else 1 - picture
    return picture.expand(shape) + 0.03 * torch.randn(shape, generator=generator)


def _stretched(picture: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Brought into a random part of [low, high], at least a third of it wide."""
    width = _between(0.33, 1.0, generator) * (high - low)
    start = low + _between(0, 1, generator) * (high - low - width)
    bottom, top = picture.min(), picture.max()
    return start + (picture - bottom) / (top - bottom).clamp(min=1e-6) * width


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _chance(share: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < share
