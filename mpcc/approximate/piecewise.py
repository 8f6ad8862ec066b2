"""Functions of one variable by pieces: polynomials between thresholds, all thresholds on one opening. Shared code.

    y = p_J(x) + sum_j [x < t_j] (p_j - p_(j+1))(x)

x times a bit is free once x is opened, and so is a constant times a bit. Of the higher powers only as many values are
opened as are independent: one (x^2) for a quadratic spline with any number of pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.linalg import qr
from torch import Tensor

from mpcc.ir import mpc

from .blocks import poly

Pieces = Sequence[Sequence[float]]
Reference = Callable[[Tensor], Tensor]
GRID = 24001
TINY = 1e-12
FINEST, LARGEST = 2.0**-20, 2.0**6  # numbers worth writing as powers of two
CURVED = 0.125  # x^2 is taken by eighths: then its coefficients have the size of the slopes
Table = np.ndarray[Any, Any]


def piecewise(x: Any, thresholds: Sequence[float], pieces: Pieces) -> Any:
    """pieces[0] below thresholds[0], pieces[1] from there to thresholds[1] ..., pieces[-1] above the last."""
    width = max(2, *(len(piece) for piece in pieces))
    table = np.array([[*piece, *[0.0] * (width - len(piece))] for piece in pieces])
    values, mixture = _basis(x, table)
    bits = [mpc.less(x, float(t)) for t in thresholds]
    curve, steps = Sum(), Sum()
    for position, bit in enumerate(bits):
        constant, *shares = mixture[position] - mixture[position + 1]
        steps.append(float(constant), lambda bit=bit: bit)  # type: ignore[misc]
        for value, share in zip(values, shares, strict=True):
            curve.append(float(share), lambda bit=bit, value=value: mpc.select(bit, value))  # type: ignore[misc]
    constant, *shares = mixture[-1]
    for value, share in zip(values, shares, strict=True):
        curve.append(float(share), lambda value=value: value)  # type: ignore[misc]
    y, rest = curve.value(), steps.value()
    y = rest if y is None else y if rest is None else mpc.add(y, rest)
    y = mpc.scale(x, 0.0) if y is None else y
    return mpc.add(y, float(constant)) if abs(constant) > TINY else y


class Sum:
    """A sum of values times public factors, where factors are sums of a few powers of two: added up in Horner's order.

    Values whose scales differ by powers of two meet without rounding, and each step asks for few bits.
    """

    def __init__(self) -> None:
        self.terms: dict[float, list[tuple[float, Any]]] = {}  # size -> (sign, value)

    def append(self, factor: float, value: Callable[[], Any]) -> None:
        """Add factor * value(), if the factor is not 0."""
        if abs(factor) > TINY:
            made = value()
            for digit in powers_of_two(factor):
                self.terms.setdefault(abs(digit), []).append((math.copysign(1.0, digit), made))

    def value(self) -> Any:
        """The sum; None if there is nothing in it."""
        total, unit = None, 1.0
        for size in sorted(self.terms):
            total = None if total is None else mpc.scale(total, unit / size)
            unit = size
            for sign, value in sorted(self.terms[size], key=lambda term: -term[0]):
                if total is None:
                    total = value if sign > 0 else mpc.neg(value)
                else:
                    total = mpc.add(total, value) if sign > 0 else mpc.sub(total, value)
        return total if total is None or unit == 1.0 else mpc.scale(total, unit)


def _basis(x: Any, table: Table) -> tuple[list[Any], Table]:
    """Values that are opened, and every piece as [constant, share of each value].

    The first value is x. The others are the curved pieces themselves where no fewer powers are independent, else
    independent combinations of powers.
    """
    curved = np.abs(table[:, 2:]).max(axis=1, initial=0.0) > TINY
    distinct = np.unique(table[curved], axis=0)
    basis, mixture = independent(table[:, 2:])
    if len(basis) == len(distinct):
        shares = np.array([[float((row == d).all()) for d in distinct] for row in table]).reshape(len(table), -1)
        straight = np.where(curved[:, None], 0.0, table[:, :2])
        return [x, *(poly(x, d) for d in distinct.tolist())], np.hstack([straight, shares])
    values = [mpc.scale(poly(x, (0.0, 0.0, *row)), CURVED) for row in basis.tolist()]
    return [x, *values], np.hstack([table[:, :2], mixture / CURVED])


def powers_of_two(number: float) -> list[float]:
    """The few signed powers of two that a number of `FINEST` is the sum of; any other number as it is.

    Values meet exactly where their scales differ by powers of two, so that no bits are lost on aligning them.
    """
    units = number / FINEST
    if abs(units - round(units)) > 1e-6 or abs(number) > LARGEST:
        return [number]
    digits, units, unit = [], round(units), FINEST
    while units:
        if units % 2:
            digit = 2 - units % 4  # +1 or -1, such that the next digit is 0
            digits.append(digit * unit)
            units -= digit
        units //= 2
        unit *= 2
    return digits


def independent(rows: Table) -> tuple[Table, Table]:
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
