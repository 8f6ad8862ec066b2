"""The choice of an approximation for every site: candidates, sensitivities, prices, and the solver."""

from .candidates import Candidate, Candidates, candidates
from .default_plan import default_plan
from .layouts import layouts
from .metrics import load_metric, metric_of
from .problem import Limit, Weights
from .recipes import recipe_plan
from .scores import Scores
from .sensitivity import Sensitivity
from .solver import solve

__all__ = [
    "Candidates",
    "Limit",
    "Candidate",
    "Scores",
    "Sensitivity",
    "Weights",
    "candidates",
    "default_plan",
    "layouts",
    "load_metric",
    "metric_of",
    "recipe_plan",
    "solve",
]
