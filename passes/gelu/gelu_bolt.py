"""GELU as in BOLT: a quartic in |x| plus x/2 between two thresholds, 0 below and x above. Error 9.4e-3.

    |x| <= 2.7: .0208486 a^4 - .1835251 a^3 + .5410550 a^2 - .0379816 a + .0016208 + x/2,   a = |x|

Source: Pang et al., BOLT, IEEE S&P 2024, section on GELU.
"""

from __future__ import annotations

from mpcc.approximate.elementwise import quartic_gelu

GELU_BOLT = quartic_gelu(
    "gelu_bolt",
    2.7,
    (0.0016208, -0.0379816, 0.541055, -0.1835251, 0.0208486),
    source="BOLT, IEEE S&P 2024",
    summary="a quartic in |x| between thresholds at 2.7",
)
