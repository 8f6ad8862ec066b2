"""The choice of an approximation for every site: candidates, sensitivities, prices, and the solver."""

from .candidates import Candidate, Candidates, candidates
from .default_plan import applicable, default_plan
from .layouts import layouts
from .metrics import Metric, load_metric, metric_of
from .problem import Edge, Limit, Option, Problem, Slot, Weights
from .recipes import recipe_plan
from .scores import Scores
from .sensitivity import Sensitivity
from .solver import solve

__all__ = [
    "Candidates",
    "Edge",
    "Limit",
    "Candidate",
    "Metric",
    "Option",
    "Problem",
    "Scores",
    "Sensitivity",
    "Slot",
    "Weights",
    "applicable",
    "candidates",
    "default_plan",
    "layouts",
    "load_metric",
    "metric_of",
    "recipe_plan",
    "solve",
]
