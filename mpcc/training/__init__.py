"""Search with training: sites as mixtures, latency in the loss, picks, distillation, checkpoints, data."""

from .checkpoint import Checkpoint, Snapshot
from .data import Data, Part, load_data
from .discretise import Picks, by_milp, by_ratio
from .distil import NONE, Distillation, taps
from .fitting import fitted_plan, provisional_plan, untrained
from .group import Group, device_of, group
from .latency import Prices, measured
from .methods import METHODS, Method, method
from .mixture import EXACT, GRANULARITIES, Candidate, Gate, Granularity, Mixture, Picked, gate, replaced, weights_of
from .trainer import Recipe, Row, Stage, Trainer, accuracy

__all__ = [
    "EXACT",
    "GRANULARITIES",
    "METHODS",
    "NONE",
    "Candidate",
    "Checkpoint",
    "Data",
    "Distillation",
    "Gate",
    "Granularity",
    "Group",
    "Method",
    "Mixture",
    "Part",
    "Picked",
    "Picks",
    "Prices",
    "Recipe",
    "Row",
    "Snapshot",
    "Stage",
    "Trainer",
    "accuracy",
    "by_milp",
    "by_ratio",
    "device_of",
    "fitted_plan",
    "gate",
    "group",
    "load_data",
    "measured",
    "method",
    "provisional_plan",
    "replaced",
    "taps",
    "untrained",
    "weights_of",
]
