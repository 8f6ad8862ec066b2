"""exp(x) by a spline gate (`mpcc.approximate.grids`): one round.

    exp(x), each piece about as good relatively; beyond the calibrated range widened by a quarter, wrong
"""

from __future__ import annotations

from mpcc.approximate import SiteStatistics
from mpcc.approximate.grids import above_one, digits, elementwise_grid
from mpcc.fitting.minimax import exponential

MARGIN, WIDEST = 0.25, 40.0
"""Part of the range that is added on both sides; exp of a wider one has more digits than the ring."""


def ends(statistics: SiteStatistics) -> tuple[float, float] | None:
    """The calibrated range, widened."""
    seen = statistics.ranges["input"]
    more = MARGIN * (seen.high - seen.low) + 1e-3
    return (digits(seen.low - more), digits(seen.high + more)) if seen.high - seen.low + 2 * more <= WIDEST else None


EXP_GRID = elementwise_grid("exp", exponential, ends=ends, weight=above_one)
