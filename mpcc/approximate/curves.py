"""The splines of common curves: fitted once, kept in `curves.json`, the same for every site. Shared, not a plug-in.

    python -m mpcc.approximate.curves       fits them again and writes the file (half a minute)
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from mpcc.fitting.minimax import Function, expm1_below, gelu, mish, sigmoid, silu, softplus, tanh
from mpcc.fitting.splines import spline_of

from . import Options

FILE = Path(__file__).with_name("curves.json")
CURVES: dict[str, tuple[Function, tuple[float, ...], tuple[float, ...]]] = {
    "gelu": (gelu, (0.0,), (0.0, 1.0)),
    "silu": (silu, (0.0,), (0.0, 1.0)),
    "mish": (mish, (0.0,), (0.0, 1.0)),
    "softplus": (softplus, (0.0,), (0.0, 1.0)),
    "elu": (expm1_below, (-1.0,), (0.0,)),
    "sigmoid": (sigmoid, (0.0,), (1.0,)),
    "tanh": (tanh, (-1.0,), (1.0,)),
}
"""Name -> function, and the pieces (coefficients of powers) that hold far below and far above."""

FORMS = (
    (2, 8), (2, 16), (2, 11), (2, 6), (2, 5), (2, 4), (2, 3), (2, 2),
    (1, 16), (1, 12), (1, 10), (1, 8), (1, 6), (1, 5), (1, 4), (1, 3),
)  # fmt: skip
"""(degree, thresholds) of each candidate, the accurate default first."""


def spline_candidates(name: str) -> tuple[Options, ...]:
    """Options of the splines of a curve, the accurate default first."""
    return tuple(_kept()[name])


@cache
def _kept() -> dict[str, list[Options]]:
    return json.loads(FILE.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def fitted(name: str) -> list[Options]:
    """The splines of a curve, fitted now."""
    function, below, above = CURVES[name]
    splines = [spline_of(function, below, above, degree, count) for degree, count in FORMS]
    return [{"thresholds": list(s.thresholds), "pieces": [list(piece) for piece in s.pieces]} for s in splines]


def main() -> None:
    """Write the file."""
    lines = [f'"{name}": [\n' + ",\n".join(json.dumps(one) for one in fitted(name)) + "\n]" for name in CURVES]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
