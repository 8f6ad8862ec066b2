"""Functions of one variable by pieces: polynomials between thresholds, all thresholds on one opening. Shared code.

    y = p_J(x) + sum_j [x < t_j] (p_j - p_(j+1))(x)

x times a bit is free once x is opened, and so is a constant times a bit. Of the higher powers only as many values are
opened as the differences of the pieces are independent: one (x^2) for a quadratic spline with any number of pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.linalg import qr
from torch import Tensor

from mpcc.ir import mpc

from ._forms import poly

Pieces = Sequence[Sequence[float]]
Reference = Callable[[Tensor], Tensor]
GRID = 24001
TINY = 1e-12


def piecewise(x: Any, thresholds: Sequence[float], pieces: Pieces) -> Any:
    """pieces[0] below thresholds[0], pieces[1] from there to thresholds[1] ..., pieces[-1] above the last."""
    degree = max(len(piece) for piece in pieces) - 1
    table = np.zeros((len(pieces), max(degree, 1) + 1))
    for row, piece in enumerate(pieces):
        table[row, : len(piece)] = piece
    differences = table[:-1] - table[1:]
    basis, mixture = independent(differences[:, 2:])
    bits = [mpc.less(x, float(t)) for t in thresholds]
    values = [poly(x, (0.0, 0.0, *row)) for row in basis]
    y = poly(x, [float(c) for c in pieces[-1]])
    for bit, (constant, slope, *_), shares in zip(bits, differences, mixture, strict=True):
        for value, share in [(x, slope), *zip(values, shares, strict=True)]:
            if abs(share) > TINY:
                y = mpc.add(y, mpc.scale(mpc.select(bit, value), float(share)))
        if abs(constant) > TINY:
            y = mpc.add(y, mpc.scale(bit, float(constant)))
    return y


def independent(rows: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Independent rows (some of the given ones), and the mixture of them that each given row is."""
    if rows.size == 0 or np.abs(rows).max() <= TINY:
        return np.zeros((0, rows.shape[1])), np.zeros((rows.shape[0], 0))
    _, triangle, order = qr(rows.T, pivoting=True, mode="economic")
    sizes = np.abs(np.diag(triangle))
    rank = int((sizes > 1e-9 * sizes[0]).sum())
    basis = rows[order[:rank]]
    if rank == 1:  # a power of x, not some multiple of it: so that several sites share it
        basis = basis / basis[0, np.abs(basis[0]).argmax()]
    return basis, rows @ np.linalg.pinv(basis)


def largest_error(
    function: Callable[[Tensor], Tensor], reference: Reference, low: float, high: float, edges: Sequence[float] = ()
) -> float:
    """The largest absolute error on [low, high], looked at closely around `edges` (where the pieces meet).

    A little more than what the grid shows, for what lies between its points.
    """
    near = [np.nextafter(t, t + s) for t in edges for s in (-1.0, 1.0)] + [float(t) for t in edges]
    x = torch.cat([torch.linspace(low, high, GRID, dtype=torch.float64), torch.tensor(near, dtype=torch.float64)])
    return float((function(x) - reference(x)).abs().max()) * 1.001 + 1e-6
