"""Members and error bounds that several softmaxes and norms share. Shared code, not a plug-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from mpcc.rewrite import Options
from mpcc.rewrite.chains import Chain
from mpcc.rewrite.chains import options_of as chain_options
from mpcc.rewrite.chains import value as chain_value
from mpcc.rewrite.exponentials import Exponential, error
from mpcc.rewrite.exponentials import options_of as exponential_options
from mpcc.rewrite.fit import chebyshev_grid

ROUGHEST = 0.05  # a member further off than this is not worth its rounds
EXPONENTIAL_TOLERANCE, RECIPROCAL_TOLERANCE = 7e-3, 1e-3  # of the default member
POINTS = 4001
Member = TypeVar("Member", Exponential, Chain)


def softmax_members(
    exps: Sequence[Exponential], recips: Sequence[Chain], recorded: Mapping[str, Any]
) -> tuple[Options, ...]:
    """Every pair of an exponential and a reciprocal; first the shortest of each within the default tolerance."""
    exps = [member for member in exps if member.error < ROUGHEST]
    recips = [chain for chain in recips if chain.error < ROUGHEST]
    if not exps or not recips:
        return ()
    first = (_first(exps, EXPONENTIAL_TOLERANCE), _first(recips, RECIPROCAL_TOLERANCE))
    pairs = [first, *((e, r) for e in exps for r in recips if (e, r) != first)]
    members = [{**exponential_options(e), **chain_options(r), **recorded} for e, r in pairs]
    return tuple({**member, "joined": joined} for member in members for joined in (True, False))


def _first(members: Sequence[Member], tolerance: float) -> Member:
    return next((member for member in members if member.fixed_error <= tolerance), members[-1])


def softmax_error(options: Options, floor: float) -> float:
    """Bound on a weight's error, from exp's error and 1/d's relative error on [1, ratio]."""
    d = chebyshev_grid(1.0, options["ratio"], POINTS)
    relative = float(np.abs(chain_value(options["chain"], d) * d - 1).max())
    return exponential_error(options, options["powers"], floor, relative)


def exponential_error(options: Options, powers: Sequence[int], floor: float, relative: float) -> float:
    """2 delta / (1 - 2 delta) with exp's error delta against max(floor, exp), and a division's relative error."""
    x = chebyshev_grid(options["low"], options["high"], POINTS)
    delta = error(options["start"], powers, x, floor=floor)
    return 1.0 if delta >= 0.25 else (1 + relative) * (1 + 2 * delta / (1 - 2 * delta)) - 1
