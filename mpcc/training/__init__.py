"""Search with training: sites as mixtures, cost in the loss, picks, distillation, checkpoints, data."""

from .checkpoint import Checkpoint
from .data import Data, load_data
from .discretise import by_milp, by_ratio
from .distil import taps
from .finish import Tuned
from .group import Group, device_of, group
from .latency import Prices
from .mixture import Candidate, Gate, Mixture, Picked, gate, replaced
from .request import Request
from .trainer import Hyperparameters, Row, Stage, Trainer
from .tuning import Tuning, tune

__all__ = [
    "Candidate",
    "Checkpoint",
    "Data",
    "Gate",
    "Group",
    "Hyperparameters",
    "Mixture",
    "Picked",
    "Prices",
    "Request",
    "Row",
    "Stage",
    "Trainer",
    "Tuned",
    "Tuning",
    "by_milp",
    "by_ratio",
    "device_of",
    "gate",
    "group",
    "load_data",
    "replaced",
    "taps",
    "tune",
]
