"""Functions by pieces of a uniform grid, each good on both of its neighbours: the numbers of `mpc.curve`.

    pieces[j] is fitted on (place - step, place + step), place = low + j step: polynomials in t = (x - place) / step

Least squares over Chebyshev's points: within a fifth of the least maximum error for the smooth functions of this compiler, and
all pieces at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from .minimax import Array, Function, rounded

Pieces = tuple[tuple[float, ...], ...]
POINTS, CHECKED = 33, 65
"""Of a piece: 33 points fit a polynomial of degree up to 7 as well as more would, and 65 show its largest error to 1 %."""


@cache
def fit_grid(function: Function, low: float, step: float, depth: int, degree: int) -> Pieces:
    """Coefficients of 1, t, t^2 ... of the 2^depth pieces from `low` on.

    The last piece's upper neighbour is the first one, beyond the end: x has to stay within low ... low + (2^depth - 1) step.
    """
    t = -np.cos((np.arange(POINTS) + 0.5) * np.pi / POINTS)
    values = function(_points(low, step, depth, t))
    found = np.linalg.lstsq(np.vander(t, degree + 1, increasing=True), values.T, rcond=None)[0]
    return tuple(rounded(piece) for piece in found.T)


def errors(function: Function, low: float, step: float, pieces: Pieces, ends: tuple[float, float]) -> tuple[Array, Array]:
    """(x, the error of the piece that holds there) at points of [ends], each x by both pieces that may be taken."""
    t = np.linspace(-1, 1, CHECKED)
    depth = (len(pieces) - 1).bit_length()
    x = _points(low, step, depth, t)
    found = values_at(pieces, t)
    there = (x >= ends[0]) & (x <= ends[1])
    return x[there], np.abs(found - function(x))[there]


def values_at(pieces: Sequence[Sequence[float]], t: Array) -> Array:
    """All pieces at t [points]: [pieces, points]."""
    table = np.asarray(pieces)
    return np.asarray(table @ np.vander(t, table.shape[1], increasing=True).T)


def _points(low: float, step: float, depth: int, t: npt.NDArray[np.float64]) -> Array:
    return np.asarray(low + (np.arange(1 << depth)[:, None] + t) * step)
