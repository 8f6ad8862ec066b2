"""GELU as in BumbleBee: BOLT's quartic in |x|, cut at 3 instead of 2.7. Error 5.2e-3.

    |x| <= 3: .0208486 a^4 - .1835251 a^3 + .5410550 a^2 - .0379816 a + .0016208 + x/2,   a = |x|

Source: Lu et al., BumbleBee, NDSS 2025 (there on a ring of 32 bits with 12 fraction bits).
"""

from __future__ import annotations

from mpcc.approximate.elementwise import quartic_gelu

GELU_BUMBLEBEE = quartic_gelu(
    "gelu_bumblebee",
    3.0,
    (0.0016208, -0.0379816, 0.541055, -0.1835251, 0.0208486),
    source="BumbleBee, NDSS 2025",
    summary="BOLT's quartic between thresholds at 3",
)
