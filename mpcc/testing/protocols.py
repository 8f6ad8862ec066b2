"""The contract of a protocol, to be run on those of other packages too: `check_protocol(MY_PROTOCOL)`."""

from __future__ import annotations

import math

import sympy

from mpcc.cost import Protocol
from mpcc.errors import MissingCost

ARITHMETIC: dict[str, tuple[tuple[int, ...], ...]] = {
    "add": ((4, 8), (4, 8)),
    "mul": ((4, 8), (4, 8)),
    "square": ((4, 8),),
    "matmul": ((2, 4, 8), (2, 8, 5)),
    "linear": ((4, 8), (5, 8)),
    "less": ((4, 8),),
    "select": ((4, 8), (4, 8)),
}
"""Primitives that every plan needs, with the shapes of their operands."""


def check_protocol(protocol: Protocol) -> None:
    """It says who takes part, prices the arithmetic in numbers and symbols alike, and names what it has no price for.

    AssertionError with the reason otherwise.
    """
    assert protocol.parties in (2, 3), f"{protocol.name}: {protocol.parties} parties"
    assert protocol.ring_bits == 64, f"{protocol.name}: {protocol.ring_bits} ring bits"
    for field in ("title", "adversary", "correlations", "source"):
        assert getattr(protocol, field), f"{protocol.name}: {field} is empty"
    assert protocol.compute.source, f"{protocol.name}: the source of its compute is empty"
    for primitive, shapes in ARITHMETIC.items():
        check_price(protocol, primitive, shapes)
    try:
        protocol.price("frobnicate", [(4,)], site="blocks.0.frobnicate")
    except MissingCost as error:
        assert protocol.name in str(error) and "blocks.0.frobnicate" in str(error), error
    else:
        raise AssertionError(f"{protocol.name} prices a primitive that does not exist")


def check_price(protocol: Protocol, primitive: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    """No price is negative, and a formula's value at numbers is the price of the numbers."""
    where = f"{protocol.name}: {primitive}"
    price = protocol.price(primitive, shapes).online
    assert price.rounds >= 0 and price.bytes >= 0 and price.local_seconds >= 0, f"{where} has a negative price"
    symbols = {size: sympy.Symbol(f"s{size}", positive=True) for shape in shapes for size in shape}
    formula = protocol.price(primitive, [tuple(symbols[size] for size in shape) for shape in shapes]).online
    value = float(sympy.sympify(formula.bytes).subs({symbol: size for size, symbol in symbols.items()}))
    assert math.isclose(value, float(price.bytes), rel_tol=1e-6), f"{where} is {value:g} B by formula, {price.bytes} B by numbers"
