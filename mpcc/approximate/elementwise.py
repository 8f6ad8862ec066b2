"""Families of approximations of one variable: what those of a family share, so that a plug-in says only what sets it apart.

    SILU_SPLINE = spline("silu", torch.nn.functional.silu)
    RSQRT_FITTED = fitted_chain("rsqrt", torch.rsqrt, combined)
    GELU_BOLT = quartic_gelu("gelu_bolt", 2.7, (...), source="BOLT, IEEE S&P 2024", summary="...")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mpcc.fitting.factor_chains import Kind, options_of, plan_chains
from mpcc.fitting.minimax import Array, fit_polynomial
from mpcc.ir import mpc

from .approximation import Approximation, Domain, Options
from .blocks import Stages, factors
from .curves import spline_candidates
from .families import first_within
from .piecewise import Pieces, largest_error, piecewise
from .site import SiteStatistics

Reference = Callable[[Tensor], Tensor]
REACH = 30.0
"""How far out errors are looked at: beyond it every curve here is one of its straight ends to float64's last digit."""
CHAIN_MARGIN = 1.25
"""Of a chain's range over what calibration saw, on both sides."""
CHAIN_TOLERANCE, ROUGHEST_CHAIN = 1e-3, 0.1
"""Relative error of the default chain, and the largest one that is offered."""


def piecewise_curve(x: Any, *, thresholds: Sequence[float], pieces: Pieces) -> Any:
    """A curve between thresholds, any shape."""
    return piecewise(x, thresholds, pieces)


def spline(
    operator: str,
    reference: Reference,
    *,
    function: Callable[..., Any] = piecewise_curve,
    summary: str = "pieces of degree 1 or 2 between thresholds on one opening",
    preference: int | None = None,
) -> Approximation:
    """`operator` by pieces between thresholds that all share one opening: three rounds.

    The knots are free: the fewest pieces within a tolerance, the same for every site (`curves.json`). Degree 1 opens x only
    (16 bytes per element, 1.75 per threshold), degree 2 also x^2, once for all pieces. The outer pieces hold everywhere, so
    there is no range to leave. Quadratic splines come first, then straight ones, the finer first.
    """

    def error(options: Options) -> float:
        return largest_error(partial(function, **options), reference, -REACH, REACH, options["thresholds"])

    return Approximation(
        name=f"{operator}_spline", operator=operator, level="bounded", source="fitted: a spline with free knots",
        function=function, candidates=lambda statistics: spline_candidates(operator), error=error, preference=preference,
        summary=summary,
    )  # fmt: skip


def quartic_gelu(name: str, cut: float, coefficients: Sequence[float], *, source: str, summary: str) -> Approximation:
    """GELU as a quartic in |x| (`coefficients` of its powers) plus x/2 up to `cut`, 0 below -cut and x above.

    The two signs of x are two pieces, so that |x| needs no round of its own.
    """
    constant, linear, square, cube, fourth = coefficients
    thresholds = (-cut, 0.0, cut)
    pieces = (
        (0.0,),
        (constant, 0.5 - linear, square, -cube, fourth),
        (constant, 0.5 + linear, square, cube, fourth),
        (0.0, 1.0),
    )

    def function(x: Any) -> Any:
        return piecewise(x, thresholds, pieces)

    def error(options: Options) -> float:
        return largest_error(function, torch.nn.functional.gelu, -REACH, REACH, thresholds)

    return Approximation(
        name=name, operator="gelu", level="bounded", source=source, function=function, error=error, summary=summary
    )


def fitted_chain(
    operator: str, reference: Reference, *, kind: Kind = "rsqrt", function: Callable[..., Any], signs: Sequence[float] = (1.0,)
) -> Approximation:
    """`operator` by a chain of polynomials for 1/x or 1/sqrt(x): one round a stage, and one more for the products.

    Fitted to the calibrated range (`low`, `high`, widened by CHAIN_MARGIN on both sides), times a `sign` among `signs`,
    which must not touch 0. Outside it a chain of one stage degrades gently; one of several stages is wrong far beyond it.
    """

    def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
        """By the number of stages, the accurate default first."""
        seen = statistics.ranges["input"]
        sign = 1.0 if seen.low > 0 else -1.0
        low, high = sorted((sign * seen.low, sign * seen.high))
        if low <= 0 or sign not in signs:
            return ()
        low, high = float(f"{low / CHAIN_MARGIN:.3g}"), float(f"{high * CHAIN_MARGIN:.3g}")
        found = [one for one in plan_chains(kind, low, high) if one.error < ROUGHEST_CHAIN]
        recorded = {"sign": sign, "low": low, "high": high, "margin": CHAIN_MARGIN}
        return tuple({**options_of(one), **recorded} for one in first_within(found, CHAIN_TOLERANCE))

    def error(options: Options) -> float:
        curve = partial(function, **{**options, "sign": 1.0})
        return largest_error(curve, reference, options["low"], options["high"])

    return Approximation(
        name=f"{operator}_fitted", operator=operator, level="bounded", source="fitted to the site", function=function,
        candidates=candidates, error=error, domain=_signed_input, summary="a chain of polynomials on the calibrated range",
    )  # fmt: skip


WINDOW_MARGIN, WIDEST_WINDOW = 1.5, 2.0**12
"""Of a windowed range over what calibration saw, on both sides; and its widest: a comparison resolves 2^-16 of its range."""


def windowed(operator: str, reference: Reference, *, function: Callable[..., Any], relative: bool) -> Approximation:
    """`operator` over any positive range in a fixed number of rounds: brought to [1, 2) by comparisons, then a polynomial.

    One threshold for each of the `octaves` (factors of 2) from `low` on, all on one opening of x; the polynomial is a
    quartic or a quadratic, fitted to `reference` on [1, 2] (for the least `relative` error, or absolute). The range is the
    calibrated one widened by WINDOW_MARGIN. Below it the result stays near that at `low`, above it is the polynomial's.
    """

    def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
        """The quartic, then the quadratic; only for positive x in a range that a comparison resolves."""
        seen = statistics.ranges["input"]
        if seen.low <= 0 or seen.high * WINDOW_MARGIN**2 / seen.low > WIDEST_WINDOW:
            return ()
        low = float(f"{seen.low / WINDOW_MARGIN:.3g}")
        octaves = max(1, math.ceil(math.log2(seen.high * WINDOW_MARGIN / low)))
        fits = [fit_polynomial(curve, 1.0, 2.0, degree, relative=relative).coefficients for degree in (4, 2)]
        return tuple({"low": low, "octaves": octaves, "coefficients": list(c), "margin": WINDOW_MARGIN} for c in fits)

    def curve(u: Array) -> Array:
        return reference(torch.from_numpy(u)).numpy()

    def error(options: Options) -> float:
        low, high = options["low"], options["low"] * 2 ** options["octaves"]
        edges = [low * 2.0**k for k in range(1, options["octaves"])]
        return largest_error(partial(function, **options), reference, low, high, edges)

    return Approximation(
        name=f"{operator}_windowed", operator=operator, level="bounded", source="SPU's normalisation by comparisons",
        function=function, candidates=candidates, error=error,
        domain=lambda options: {"input": (options["low"], options["low"] * 2.0 ** options["octaves"])},
        summary="brought to [1, 2) by comparisons, then a polynomial: any range, a fixed number of rounds",
    )  # fmt: skip


def combined(x: Any, stages: Stages) -> Any:
    """The product of a chain's factors at x."""
    first, *rest = factors(x, stages)
    for factor in rest:
        first = mpc.mul(first, factor)
    return first


def _signed_input(options: Options) -> Domain:
    """The domain of a fit on [low, high] of `sign` times the input."""
    low, high = sorted(float(options["sign"] * options[end]) for end in ("low", "high"))
    return {"input": (low, high)}
