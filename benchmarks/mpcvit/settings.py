"""The comparison's settings and rows: models, data, hyperparameters, and one row for each entry of MPCViT's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.mpcvit.model import SMALL, VIT_7_4_32, VIT_7_4_32_100, VIT_9_12_64, Size


@dataclass(frozen=True)
class Setting:
    """A model, its data, and for how long everything trains: `search` + `train` epochs for every row alike."""

    name: str
    size: Size
    data: str
    images: int | None
    teacher_epochs: int
    search: int
    train: int
    batch: int
    rate: float
    budgets: tuple[str, ...]
    teacher_rate: float = 2e-3
    twice: str | None = None
    """The budget at which mpcc's search is also trained for twice as long."""


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("fashion", SMALL, "fashion-mnist", 6000, 16, 2, 4, 100, 1e-3, ("1.8s", "1.1s", "0.8s", "0.6s")),
        # All 54,000 training images, for a machine with a GPU and some cores: --device cuda --jobs 16.
        Setting(
            "fashion-full", SMALL, "fashion-mnist", None, 24, 3, 7, 512, 2e-3,
            ("1.8s", "1.1s", "0.8s", "0.6s", "1.2s"), teacher_rate=3e-3, twice="1.2s",
        ),  # fmt: skip
        Setting("mnist", SMALL, "mnist-5k", None, 30, 3, 6, 100, 1e-3, ("1.8s", "1.1s", "0.8s", "0.6s")),
        # The paper's models and epochs (300 of search, 600 of training). They run when --data names the images; their
        # results have not been reproduced here.
        Setting("cifar-10", VIT_7_4_32, "cifar-10/", None, 600, 300, 600, 128, 5.5e-4, ("20s", "10s", "6s"), 5.5e-4),
        Setting("cifar-100", VIT_7_4_32_100, "cifar-100/", None, 600, 300, 600, 128, 6e-4, ("20s", "10s", "6s"), 6e-4),
        Setting("tiny-imagenet", VIT_9_12_64, "tiny-imagenet/", None, 600, 300, 600, 128, 5e-4, ("60s", "30s", "15s"), 5e-4),
    )
}


@dataclass(frozen=True)
class Row:
    """One row: a recipe of `mpcc tune --method` and its options. `epochs`: of training after the search, if not the setting's."""

    title: str
    method: str
    mu: float | None = None
    budget: str | None = None
    distil: bool = True
    epochs: int | None = None

    @property
    def key(self) -> str:
        """Name of its results file."""
        parts = (self.method, self.mu, self.budget, self.epochs and f"{self.epochs}epochs", None if self.distil else "labels")
        return "-".join(str(p) for p in parts if p is not None)

    @property
    def arguments(self) -> str:
        """Its options on the command line."""
        mu = f" --mu {self.mu:g}" if self.mu is not None else ""
        budget = f" --budget {self.budget}" if self.budget else ""
        epochs = f" --epochs {self.epochs}" if self.epochs else ""
        return f"--method {self.method}{mu}{budget}{epochs}" + ("" if self.distil else " --no-distil")


def rows(setting: Setting) -> Sequence[Row]:
    """All rows, those that say most first: a run that is stopped early has a whole picture for the seeds that it did."""
    own = [Row(f"mpcc, {budget}", "mpcc", budget=budget) for budget in setting.budgets]
    longer = 2 * (setting.search + setting.train) - setting.search
    return [
        Row("Softmax", "softmax", distil=False),
        Row("ScaleAttn", "scaling", distil=False),
        *own[:2],
        Row("MPCViT, mu = 0.5", "mpcvit", 0.5),
        Row("MPCFormer", "mpcformer"),
        Row("THE-X", "the-x"),
        Row("ReLU-softmax", "relu-softmax", distil=False),
        *own[2:],
        Row("MPCViT+, mu = 0.5", "mpcvit+", 0.5),
        Row("MPCViT, mu = 0.1", "mpcvit", 0.1),
        Row("MPCViT+, mu = 0.1", "mpcvit+", 0.1),
        *(replace(row, title=f"{row.title}, labels only", distil=False) for row in own),
        Row("MPCFormer, labels only", "mpcformer", distil=False),
        Row("MPCViT, mu = 0.5, labels only", "mpcvit", 0.5, distil=False),
        *(Row(f"MPCViT, mu = {mu:g}", "mpcvit", mu) for mu in (0.3, 0.7)),
        *(Row(f"MPCViT+, mu = {mu:g}", "mpcvit+", mu) for mu in (0.3, 0.7)),
        *(Row(f"MPCViT, mu = {mu:g}, labels only", "mpcvit", mu, distil=False) for mu in (0.1, 0.3, 0.7)),
        *(Row(f"MPCViT+, mu = {mu:g}, labels only", "mpcvit+", mu, distil=False) for mu in (0.1, 0.3, 0.5, 0.7)),
        *(
            replace(row, title=f"{row.title}, labels only, twice as long", distil=False, epochs=longer)
            for row in own
            if row.budget == setting.twice
        ),
    ]
