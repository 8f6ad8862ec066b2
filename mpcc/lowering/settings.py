"""What a user chooses about the fixed point of a program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Precision and safety of a program.

    `input_bits` are the fraction bits of the inputs, `fraction_bits` those of element-wise operands, `margin` widens the
    calibrated extremes, `failure_budget` bounds the probability per inference that a local truncation fails.
    `answers` and `flood` size the noise on the outputs (see `mpcc.lowering.flood`): it hides each truncation in so many answers
    to one client, as far as its standard deviation stays below that share of the outputs' spread.
    `least_bits` of a value of size 1 are kept however many products without a truncation follow: cutting it in between costs a
    round, and the roundings of so few bits at every step may cost the answer (`FINER`).
    `tolerance`: a program whose outputs are off by more than this share of their spread is refused (PrecisionError).
    """

    input_bits: int = 16
    fraction_bits: int = 14
    margin: float = 2.0
    failure_budget: float = 1e-6
    tolerance: float = 0.05
    answers: int = 1 << 14
    flood: float = 1 / 32
    least_bits: float = 8.0


FINER = (10.0, 13.0)
"""`least_bits` that are tried in turn where a program is too coarse. Two more mostly cost nothing, as each party may still cut
its share alone: efficientvim_m1_dist of timm, 234 rounds as before, comes 2.2 % off and not 6.2. 13 are what a linear layer needs
of its input (`max_scale_bits.LEAST_INPUT`): such values are cut through openings, a round each."""
