"""Ranges without enough inputs of the user's: inputs made from the model, and how far they must be stretched.

Real inputs reach further than those that were made, by a factor that nobody knows. So a second family, drawn otherwise,
judges: where more than one in a thousand of its inputs leaves a valid range of the plan that would be made, the first
family is enlarged and ranges are fitted anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from mpcc.approximate import Approximation, SiteStatistics
from mpcc.approximate.logit_margin import SYNTHETIC_STRETCH
from mpcc.calibration import calibrate
from mpcc.calibration.basis import Basis
from mpcc.calibration.range_check import share_outside
from mpcc.calibration.ranges import Inputs
from mpcc.calibration.synthetic import Synthetic
from mpcc.errors import RangeError, UnsupportedOperator

from .default_plan import default_plan

GAINS = (1.0, 1.4, 2.0)
"""Factors on synthetic inputs, tried in turn until the judge stays inside."""
TOLERATED = 1e-3
"""Share of the judging inputs that may leave a range."""


def fitted_to(
    graph: fx.GraphModule, made: Synthetic, given: Sequence[Any], known: Mapping[str, Approximation]
) -> tuple[list[Any], dict[str, SiteStatistics], Basis]:
    """(inputs, statistics, what they rest on): `given` calls of the user's, if any, and synthetic ones at the least gain
    that the judge accepts, or at the last that was tried. RangeError where the model computes nothing finite on them."""
    judging, count, chosen = made.judging(), len(made.columns[0]), None
    for gain in GAINS if made.scalable else (1.0,):
        inputs = [*given, *made.calls(gain)]
        try:
            statistics = calibrate(graph, inputs, synthetic=not given, approximations=known.values(), stretch=SYNTHETIC_STRETCH)
            outside = _outside(graph, statistics, judging, known)
        except RangeError:
            if chosen is None:
                raise
            break  # larger inputs leave what a program can hold: what was fitted before stands
        judged = 0 if outside is None else len(judging)
        basis = Basis(len(given), count, made.inverted, gain, judged, outside or 0.0, made.source)
        chosen = inputs, statistics, basis
        if outside is None or outside <= TOLERATED:
            break
    assert chosen is not None
    return chosen


def _outside(
    graph: fx.GraphModule, statistics: Mapping[str, SiteStatistics], judging: Inputs, known: Mapping[str, Approximation]
) -> float | None:
    """The share of the judging inputs outside the ranges of the plan without search; None where there is no such plan."""
    try:
        plan = default_plan(graph, statistics, known)
    except UnsupportedOperator:
        return None
    return share_outside(graph, plan, known, judging)
