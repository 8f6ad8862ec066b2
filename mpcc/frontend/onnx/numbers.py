"""Which single numbers of a file belong to the architecture, and which were trained.

    0.125, 1e-5, 3, 0.7071068, 0.044715, -3.4e38        written down by somebody: public, so that multiplying by them is free
    1.6180, 0.93127                                     found by training: weights, whatever their shape

Public numbers end up in program.json, which client and dealer read. Neither shape nor place tells the two kinds apart: exporters
store both as initialisers of one element, and give them names of their own. Their digits do. Of the numbers of a decade, the
rules below call about one float32 in a thousand written down, so a trained one is taken for public about as rarely; a number of
the architecture that they miss becomes a weight, which costs a product (mostly folded into a layer beside it), not secrecy.
"""

from __future__ import annotations

import math

import torch

DIGITS = 3
"""Of decimals: 0.485 and 1e-5 are written down, 1.618 is not."""
LARGEST_COUNT = 1 << 16
"""Sizes n of which 1 / n, sqrt(n) and 1 / sqrt(n) are written down: those of any width, number of tokens or head."""
LARGEST_HEAD = 1 << 10
"""And n^(1/4), n^(-1/4) of head sizes, where queries and keys are scaled each by itself."""
NAMED = (
    math.sqrt(2), 1 / math.sqrt(2), math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi), 1 / math.sqrt(2 * math.pi), math.pi,
    math.log(2), 1 / math.log(2), math.log(10), 1 / math.log(10), math.log(10000), math.e, 1 / 255,
    1.702,  # the sigmoid that stands for GELU, arXiv 1606.08415
    0.044715, 0.044715 * math.sqrt(2 / math.pi),  # its tanh form, section 2 of the same
    1.0507009873554805, 1.6732632423543772, 1.0507009873554805 * 1.6732632423543772,  # SELU, arXiv 1706.02515
    0.3275911, 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429,  # erf, Abramowitz and Stegun 7.1.26
)  # fmt: skip
HALF_DIGITS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Relative error of a number stored so; float32's is 2^-24, and what was computed in it loses a bit or two more."""
FLOAT32 = 2.0**-22


def written_down(value: float, stored: torch.dtype = torch.float32) -> bool:
    """Whether a number of a file belongs to the architecture. `stored`: the type in which the file holds it."""
    error = HALF_DIGITS.get(stored, FLOAT32)
    size = abs(value)
    if not math.isfinite(value) or value == round(value):  # whole numbers, and the fillers of masks
        return True
    decimal = float(f"{size:.{DIGITS - 1}e}")
    if stored not in HALF_DIGITS:
        candidates = [decimal]
    else:  # every number is close to one of three digits
        candidates = [float(f"{size:.0e}")]
    candidates += [abs(named) for named in NAMED]
    candidates += [_power(size, exponent, largest) for exponent, largest in POWERS]
    return any(abs(size - candidate) <= error * size for candidate in candidates)


POWERS = ((-1.0, LARGEST_COUNT), (0.5, LARGEST_COUNT), (-0.5, LARGEST_COUNT), (0.25, LARGEST_HEAD), (-0.25, LARGEST_HEAD))


def _power(size: float, exponent: float, largest: int) -> float:
    """n^exponent, of the whole number n <= largest for which it is closest to `size`."""
    n = size ** (1 / exponent) if size > 0 else 0.0
    return float(max(1, min(largest, round(n))) ** exponent) if n < 2 * largest else 1.0
