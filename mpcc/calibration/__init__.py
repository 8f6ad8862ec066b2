"""Calibration: where inputs come from, what each site sees of them, and which inputs leave the ranges a plan holds on."""

from .calibrate import calibrate, calls
from .inputs import Preprocessing, load_calibration, synthetic_inputs
from .range_check import Outside, named_like, outside, watch
from .sequential_fit import in_order

__all__ = [
    "Outside",
    "Preprocessing",
    "calibrate",
    "calls",
    "in_order",
    "load_calibration",
    "named_like",
    "outside",
    "synthetic_inputs",
    "watch",
]
