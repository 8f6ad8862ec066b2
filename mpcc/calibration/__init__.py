"""Calibration: where inputs come from, what each site sees of them, and which inputs leave the ranges a plan holds on."""

from .calibrate import calibrate, calls
from .guard import Guard
from .inputs import load_calibration, synthetic_inputs
from .range_check import RangeViolation, named_like, outside, range_report

__all__ = [
    "Guard",
    "RangeViolation",
    "calibrate",
    "calls",
    "load_calibration",
    "named_like",
    "outside",
    "synthetic_inputs",
    "range_report",
]
