"""Calibration, sensitivity, and the choice of an approximation for every site."""

from .calibration import calibrate, calls
from .default_plan import applicable, default_plan
from .fastest import fastest_plan
from .findings import Finding, findings
from .in_order import in_order
from .inputs import Preprocessing, load_calibration, synthetic_inputs
from .outside import Outside, named_like, outside, watch

__all__ = [
    "Finding",
    "Outside",
    "Preprocessing",
    "applicable",
    "calibrate",
    "calls",
    "default_plan",
    "fastest_plan",
    "in_order",
    "findings",
    "load_calibration",
    "named_like",
    "outside",
    "synthetic_inputs",
    "watch",
]
