"""Search with training: sites as mixtures, cost in the loss, picks, distillation, checkpoints, data."""

from .checkpoint import Checkpoint, Snapshot
from .data import Data, Part, load_data
from .discretise import Picks, by_milp, by_ratio
from .distil import taps
from .finish import Tuned
from .fitting import fitted_plan, provisional_plan, untrained
from .group import Group, device_of, group
from .latency import Prices, measured
from .mixture import Candidate, Gate, Mixture, Picked, gate, replaced, weights_of
from .request import Request
from .trainer import Hyperparameters, Row, Stage, Trainer, accuracy
from .tuning import Tuning, tune

__all__ = [
    "Candidate",
    "Checkpoint",
    "Data",
    "Gate",
    "Group",
    "Hyperparameters",
    "Mixture",
    "Part",
    "Picked",
    "Picks",
    "Prices",
    "Request",
    "Row",
    "Snapshot",
    "Stage",
    "Trainer",
    "Tuned",
    "Tuning",
    "accuracy",
    "by_milp",
    "by_ratio",
    "device_of",
    "fitted_plan",
    "gate",
    "group",
    "load_data",
    "measured",
    "provisional_plan",
    "replaced",
    "taps",
    "tune",
    "untrained",
    "weights_of",
]
