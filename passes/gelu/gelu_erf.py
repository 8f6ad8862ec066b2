"""GELU by a published rational erf: accurate to 1e-3 at the price of a reciprocal. Nine rounds.

    gelu(x) = max(x, 0) - |x| / 2 * r^4,   r = 1 / (1 + a1 z + a2 z^2 + a3 z^3 + a4 z^4),   z = |x| / sqrt 2
    1 - r^4 is erf(z) within 5e-4

|x| is cut at 4.5, so that the reciprocal's argument stays in a fixed range; all thresholds share one opening of x.
Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.27.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import factors, power, product
from mpcc.approximate.piecewise import largest_error, piecewise
from mpcc.fitting.factor_chains import choose_chain
from mpcc.fitting.minimax import evaluate
from mpcc.ir import mpc

COEFFICIENTS = tuple(a / math.sqrt(2.0) ** k for k, a in enumerate((1.0, 0.278393, 0.230389, 0.000972, 0.078108)))
CUT = 4.5
REACH = 30.0


def gelu_erf(x: Any, *, chain: Sequence[Sequence[Sequence[float]]]) -> Any:
    """gelu(x), any shape; `chain` is the reciprocal on [1, the polynomial at the cut]."""
    size = piecewise(x, (-CUT, 0.0, CUT), ((CUT,), (0.0, -1.0), (0.0, 1.0), (CUT,)))
    terms = factors(mpc.polynomial(size, COEFFICIENTS), chain)
    inverse = terms[0] if len(terms) == 1 else product(terms[0], terms[1:], joined=False)
    return mpc.sub(mpc.relu(x), mpc.scale(mpc.mul(size, power(inverse, (2, 2))), 0.5))


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """One candidate: the reciprocal to 1e-3."""
    top = float(evaluate(COEFFICIENTS, torch.tensor([CUT], dtype=torch.float64).numpy())[0])
    return ({"chain": choose_chain("reciprocal", 1.0, round(top + 0.05, 1), 1e-3).to_json()},)


def error(options: Options) -> float:
    """Largest absolute error over all x."""
    return largest_error(partial(gelu_erf, **options), torch.nn.functional.gelu, -REACH, REACH, (-CUT, 0.0, CUT))


GELU_ERF = Approximation(
    name="gelu_erf",
    operator="gelu",
    level="bounded",
    source="Abramowitz and Stegun, 7.1.27",
    function=gelu_erf,
    candidates=candidates,
    error=error,
    summary="a rational erf with a fitted reciprocal",
)
