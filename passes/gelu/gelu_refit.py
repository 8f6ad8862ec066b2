"""GELU in BOLT's form, fitted again: a quartic in |x| plus x/2 between thresholds at 3.2. Error 3.4e-3.

    |x| <= 3.2: .022282 a^4 - .191637 a^3 + .556144 a^2 - .048128 a + .003370 + x/2,   a = |x|

The same cost as BOLT's, a third of its error.
"""

from __future__ import annotations

from mpcc.approximate.elementwise import quartic_gelu

GELU_REFIT = quartic_gelu(
    "gelu_refit",
    3.2,
    (0.00337, -0.048128, 0.556144, -0.191637, 0.022282),
    source="BOLT's form, coefficients of our own",
    summary="BOLT's form with minimax coefficients",
)
