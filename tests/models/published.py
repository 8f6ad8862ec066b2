"""Published softmaxes, GELUs and LayerNorms written over the mpc primitives, with the settings that their sources give.

Softmax is composed of a shift, an exponential and a reciprocal, LayerNorm of an inverse square root: every combination
that a source uses, each part as published. They run on this engine, not on the papers'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mpcc import registry
from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import largest, poly, positive_dim
from mpcc.ir import mpc


@dataclass(frozen=True)
class Published:
    """A candidate under the name that the table shows."""

    name: str
    approximation: Approximation
    options: Options = field(default_factory=dict)


def published(statistics: SiteStatistics) -> list[Published]:
    """The published candidates at a site."""
    return OPERATORS[statistics.site.operator](statistics)


def _gelu(statistics: SiteStatistics) -> list[Published]:
    titles = {
        "gelu_puma": "PUMA",
        "gelu_bolt": "BOLT",
        "gelu_bumblebee": "BumbleBee",
        "gelu_refit": "BOLT's form, refitted",
        "gelu_even": "x/2 + E(x^2) between thresholds",
        "gelu_erf": "Abramowitz and Stegun 7.1.27",
        "gelu_relu": "ReLU (THE-X)",
        "gelu_quad": "Quad (MPCFormer)",
        "gelu_identity": "identity (MPCViT+)",
    }
    known = registry.approximations()
    candidates = {name: known[name].candidates(statistics)[0] for name in titles}
    candidates["gelu_quad"] = {"coefficients": [0.25, 0.5, 0.125]}  # the nearer of the two published ones
    return [Published(title, known[name], candidates[name]) for name, title in titles.items()]


def _limit(x: Any, squarings: int) -> Any:
    y = mpc.add(mpc.scale(x, 2.0**-squarings), 1.0)
    for _ in range(squarings):
        y = mpc.square(y)
    return y


def _goldschmidt(x: Any, eta: float, steps: int = 13) -> Any:
    """1/x of x in (0, 2 eta): SecFormer."""
    y = mpc.scale(x, 1.0 / eta)
    m = mpc.sub(mpc.scale(y, 0.0), mpc.sub(y, 2.0))
    r = mpc.scale(m, 1.0 / eta)
    for _ in range(steps - 1):
        y = mpc.mul(y, m)
        m = mpc.add(mpc.scale(y, -1.0), 2.0)
        r = mpc.mul(r, m)
    return r


def _newton(x: Any, steps: int = 10) -> Any:
    """1/x from 3 exp(1 - 2x) + 0.003: CrypTen."""
    y = mpc.add(mpc.scale(_limit(mpc.add(mpc.scale(x, -2.0), 1.0), 8), 3.0), 0.003)
    for _ in range(steps):
        y = mpc.sub(mpc.scale(y, 2.0), mpc.mul(mpc.square(y), x))
    return y


SPU_ROOT = (4.1429, -15.480, 38.471, -49.866, 26.029)
"""1/sqrt(u) on [1/4, 1/2)."""


def _brought(x: Any, low: float, octaves: int, top: int, power: float) -> tuple[Any, Any]:
    """u = x s in [2^-(top + 1), 2^-top), s a power of two, and s^power: by comparisons, for SPU's bit decomposition.

    s is the last of the steps 2^-(k + top) / low, k = octaves down to 1, whose threshold low 2^k lies above x.
    """

    def step(k: int) -> float:
        return 2.0 ** -(k + top) / low

    u = mpc.scale(x, step(octaves))
    s = mpc.add(mpc.scale(x, 0.0), step(octaves) ** power)
    for k in range(1, octaves):  # from step(k + 1) to step(k) where x is below low 2^k
        bit = mpc.less(x, low * 2.0**k)
        u = mpc.add(u, mpc.scale(mpc.select(bit, x), step(k) - step(k + 1)))
        s = mpc.add(s, mpc.scale(bit, step(k) ** power - step(k + 1) ** power))
    return u, s


def _normalised(x: Any, low: float, octaves: int) -> Any:
    """1/x: x brought to [1/2, 1), 2.9142 - 2u and two Goldschmidt steps (Catrina and Saxena, 2010; SPU)."""
    u, s = _brought(x, low, octaves, 0, 1.0)
    w = mpc.add(mpc.scale(u, -2.0), 2.9142)
    e = mpc.add(mpc.scale(mpc.mul(u, w), -1.0), 1.0)
    r = mpc.mul(w, mpc.add(e, 1.0))
    return mpc.mul(s, mpc.mul(r, mpc.add(mpc.square(e), 1.0)))


def _normalised_root(x: Any, low: float, octaves: int) -> Any:
    """1/sqrt(x): x brought to [1/4, 1/2), a polynomial of degree 4 (SPU)."""
    u, s = _brought(x, low, octaves, 1, 0.5)
    return mpc.mul(s, poly(u, SPU_ROOT))


def _softmax_of(x: Any, dim: int, *, squarings: int, clip: float, divide: Callable[[Any], Any]) -> Any:
    dims = (positive_dim(x, dim),)
    gap = mpc.sub(x, largest(x, dims, keepdim=True))
    if clip:
        far = mpc.less(gap, clip)
        gap = mpc.add(mpc.sub(gap, mpc.select(far, gap)), mpc.scale(far, clip))
    e = _limit(gap, squarings)
    e = mpc.sub(e, mpc.select(far, e)) if clip else e
    return mpc.mul(e, divide(mpc.sum(e, dims, True)))


def _softmax(statistics: SiteStatistics) -> list[Published]:
    count = float(statistics.site.shape[-1])
    octaves = math.ceil(math.log2(count)) + 1
    spu = partial(_normalised, low=1.0, octaves=octaves)
    forms = {
        "CrypTen: max, exp limit T=8, 10 Newton steps": {"squarings": 8, "clip": 0.0, "divide": _newton},
        "max, exp limit T=8, 13 Goldschmidt steps (SecFormer)": {
            "squarings": 8, "clip": 0.0, "divide": partial(_goldschmidt, eta=count)},
        "PUMA: max, clip -14, exp limit T=5, normalised reciprocal": {"squarings": 5, "clip": -14.0, "divide": spu},
        "BumbleBee: max, clip -13, exp limit T=6, normalised reciprocal": {"squarings": 6, "clip": -13.0, "divide": spu},
        "max, clip -14, exp limit T=7, normalised reciprocal": {"squarings": 7, "clip": -14.0, "divide": spu},
    }  # fmt: skip
    made = [
        Published(title, _approximation("softmax", partial(_softmax_of, **options))) for title, options in forms.items()
    ]
    known = registry.approximations()
    for name, title in (
        ("softmax_2quad", "2Quad (MPCFormer)"),
        ("softmax_relu", "ReLU-softmax (MPCViT)"),
        ("softmax_scaling", "scaling attention (MPCViT)"),
        ("softmax_the_x", "ReLU ramp (THE-X)"),
    ):
        made += [Published(title, known[name], options) for options in known[name].candidates(statistics)[:1]]
    return made


def _norm(x: Any, *affine: Any, normalized_shape: Any, eps: float, inverse: Callable[[Any], Any]) -> Any:
    """LayerNorm without weight and bias."""
    dims = tuple(range(len(x.shape) - len(normalized_shape), len(x.shape)))
    centred = mpc.sub(x, mpc.mean(x, dims, keepdim=True))
    return mpc.mul(centred, inverse(mpc.add(mpc.mean(mpc.square(centred), dims, keepdim=True), eps)))


def _rsqrt_newton(x: Any, steps: int = 3) -> Any:
    """1/sqrt(x) from exp(-(x/2 + 0.2)) 2.2 + 0.2 - x/1024: CrypTen."""
    y = mpc.add(mpc.scale(_limit(mpc.add(mpc.scale(x, -0.5), -0.2), 8), 2.2), 0.2)
    y = mpc.sub(y, mpc.scale(x, 1 / 1024))
    for _ in range(steps):
        y = mpc.mul(mpc.scale(y, 0.5), mpc.add(mpc.scale(mpc.mul(x, mpc.square(y)), -1.0), 3.0))
    return y


def _layer_norm(statistics: SiteStatistics) -> list[Published]:
    seen = statistics.ranges["variance"]
    low, high = seen.low / 1.25, seen.high * 1.25
    octaves = max(2, math.ceil(math.log2(high / low)))
    secformer = registry.approximation("rsqrt_goldschmidt").function
    forms: dict[str, Callable[[Any], Any]] = {
        "SecFormer: 11 Goldschmidt steps after deflation": partial(secformer, eta=high, steps=11),
        "CrypTen: 3 Newton steps from an exponential": _rsqrt_newton,
        "SPU: normalised, a polynomial of degree 4": partial(_normalised_root, low=low, octaves=octaves),
    }
    return [Published(title, _approximation("layer_norm", partial(_norm, inverse=f))) for title, f in forms.items()]


def _approximation(operator: str, function: Callable[..., Any]) -> Approximation:
    return Approximation("published", operator, "bounded", "see its title", function)


OPERATORS: dict[str, Callable[[SiteStatistics], list[Published]]] = {
    "gelu": _gelu,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
}
