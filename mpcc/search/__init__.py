"""Calibration, sensitivity, and the choice of an approximation for every site."""

from .calibration import calibrate, calls
from .candidates import Candidates, Member, candidates
from .default_plan import applicable, default_plan
from .fastest import fastest_plan
from .findings import Finding, findings
from .in_order import in_order
from .inputs import Preprocessing, load_calibration, synthetic_inputs
from .layouts import layouts
from .metrics import Metric, load_metric, metric_of
from .outside import Outside, named_like, outside, watch
from .problem import Edge, Limit, Option, Problem, Slot, Weights
from .recipes import recipe_plan
from .sensitivity import Sensitivity
from .solver import solve

__all__ = [
    "Candidates",
    "Edge",
    "Finding",
    "Limit",
    "Member",
    "Metric",
    "Option",
    "Outside",
    "Preprocessing",
    "Problem",
    "Sensitivity",
    "Slot",
    "Weights",
    "applicable",
    "calibrate",
    "calls",
    "candidates",
    "default_plan",
    "fastest_plan",
    "findings",
    "in_order",
    "layouts",
    "load_calibration",
    "load_metric",
    "metric_of",
    "named_like",
    "outside",
    "recipe_plan",
    "solve",
    "synthetic_inputs",
    "watch",
]
