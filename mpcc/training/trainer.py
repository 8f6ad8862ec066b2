"""One stage of training in plain PyTorch: AdamW, warm-up and cosine, resumable at every step.

A step depends on the seed, the stage's name and the step's number alone, so that a training that was interrupted and resumed
ends with the same numbers as one that was not. A step does not wait for its loss: what it adds up stays on the device.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from mpcc.approximate.recipe import Distillation

from .checkpoint import Checkpoint, Snapshot
from .data import Data, Part
from .distil import Taps, loss_of
from .epoch import Epoch, on_device
from .group import CPU, Group
from .mixture import Mixture, batched

AT_ONCE = 256
"""Images that are evaluated together: bounds memory, changes no result."""
Progress = Callable[[str, int, int], None]
"""progress(stage, steps done, steps in all)"""


@dataclass(frozen=True)
class Hyperparameters:
    """How a model is trained; a batch is counted over all processes.

    `gate_rate`: learning rate of the scores; `warmup`: share of the steps; `smoothing`: of the labels; `clip`: norm of the
    gradients; `pressure`: step of the multiplier of the budget; `coldest`: temperature of the mixtures at the end of the
    search, from 1; `checkpoint_seconds`: between checkpoints.
    """

    epochs: int = 10
    batch: int = 128
    rate: float = 1e-3
    gate_rate: float = 2e-2
    weight_decay: float = 0.05
    warmup: float = 0.1
    smoothing: float = 0.1
    clip: float = 1.0
    pressure: float = 0.05
    coldest: float = 0.3
    seed: int = 0
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Row:
    """An epoch: mean loss; validation accuracy and predicted cost at its end (None in a stage without a prediction)."""

    stage: str
    epoch: int
    loss: float
    accuracy: float
    predicted: float | None


@dataclass(frozen=True)
class Stage:
    """A graph to train. `predicted` gives its cost, which is driven below `budget`; `penalty` weighs the absolute scores."""

    name: str
    student: fx.GraphModule
    teacher: fx.GraphModule
    distillation: Distillation
    taps: Taps
    mixtures: Mapping[str, Mixture] = field(default_factory=dict)
    predicted: Callable[[Mapping[str, Tensor]], Tensor] | None = None
    budget: float | None = None
    penalty: float = 0.0


class Trainer:
    """Runs a stage. `best` holds the weights with the best validation accuracy, `top`; scores are those of the last step.

    The graphs are on the group's device while it runs, and on the CPU again afterwards. `static`: images per call of the
    graph; `extra`: what checkpoints hold besides the state of the stage.
    """

    def __init__(
        self, stage: Stage, data: Data, hyper: Hyperparameters, static: int, group: Group, checkpoint: Checkpoint,
        extra: Mapping[str, Any], report: Callable[[Row], None], progress: Progress,
    ) -> None:  # fmt: skip
        self.device = group.device
        stage.student.to(self.device)
        stage.teacher.to(self.device)
        self.stage, self.data, self.hyper, self.static, self.group = stage, data, hyper, static, group
        self.checkpoint, self.extra, self.report, self.progress = checkpoint, extra, report, progress
        self.parameters = {n: p for n, p in stage.student.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self._groups(), lr=hyper.rate, betas=(0.9, 0.99))
        self.steps_per_epoch = len(data.training) // hyper.batch
        self.steps = self.steps_per_epoch * hyper.epochs
        self.step, self.multiplier, self.top = 0, 0.0, -1.0
        self.total = torch.zeros((), dtype=torch.float64, device=self.device)
        self.training = on_device(data.training, self.device)
        self.epoch: Epoch | None = None
        self.best: dict[str, Tensor] = {}
        self.rows: list[Row] = []

    def _groups(self) -> list[dict[str, Any]]:
        named = self.parameters.items()
        scores = [p for n, p in named if n.endswith(".scores")]
        matrices = [p for n, p in named if not n.endswith(".scores") and p.ndim > 1]
        vectors = [p for n, p in named if not n.endswith(".scores") and p.ndim <= 1]
        hyper = self.hyper
        return [
            {"params": matrices, "weight_decay": hyper.weight_decay, "base": hyper.rate},
            {"params": vectors, "weight_decay": 0.0, "base": hyper.rate},
            {"params": scores, "weight_decay": 0.0, "base": hyper.gate_rate},
        ]

    # -- the loop --

    def run(self, snapshot: Snapshot | None) -> None:
        """Train to the end, from the snapshot if it belongs to this stage."""
        if snapshot is not None and snapshot.state["stage"] == self.stage.name:
            self._restore(snapshot)
        saved = time.monotonic()
        while self.step < self.steps:
            self.progress(self.stage.name, self.step, self.steps)
            self._one()
            self.step += 1
            if self.step % self.steps_per_epoch == 0:
                self._epoch()
            if self.step % self.steps_per_epoch == 0 or time.monotonic() - saved > self.hyper.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
        self.progress(self.stage.name, self.steps, self.steps)
        self.best = {name: value.cpu() for name, value in self.best.items()}
        self.stage.student.to(CPU)
        self.stage.teacher.to(CPU)

    def _one(self) -> None:
        hyper, place = self.hyper, self.step % self.steps_per_epoch * self.hyper.batch
        progress = self.step / self.steps
        for mixture in self.stage.mixtures.values():
            mixture.temperature = hyper.coldest**progress
        for entry in self.optimizer.param_groups:
            warmup = min(1.0, (progress + 1e-9) / hyper.warmup + 1e-3)
            entry["lr"] = entry["base"] * warmup * (0.5 + 0.5 * math.cos(math.pi * progress))
        images, labels = self._images().batch(place, place + hyper.batch, self.group.rank, self.group.size)
        loss = self._loss(images, labels, progress)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.group.average(self.parameters.values())
        nn.utils.clip_grad_norm_([p for n, p in self.parameters.items() if not n.endswith(".scores")], hyper.clip)
        self.optimizer.step()
        self.total += loss.detach()

    def _images(self) -> Epoch:
        number = self.step // self.steps_per_epoch
        if self.epoch is None or self.epoch.number != number:
            order, draws = (self._generator(use, number) for use in ("order", "images"))
            self.epoch = Epoch(number, self.training, self.data.augmentation, order, draws, self.device)
        return self.epoch

    def _loss(self, images: Tensor, labels: Tensor, progress: float) -> Tensor:
        stage = self.stage
        student = batched(stage.student, images, self.static)
        teacher: Sequence[Tensor] = ()
        if stage.distillation.teacher:
            with torch.no_grad():
                teacher = batched(stage.teacher, images, self.static)
        loss = loss_of(stage.distillation, stage.taps, student, teacher, labels, progress, self.hyper.smoothing)
        if stage.penalty:
            loss = loss + stage.penalty * torch.stack([m.scores.abs().sum() for m in stage.mixtures.values()]).sum()
        if stage.predicted is None or stage.budget is None:
            return loss
        over = stage.predicted(self._weights()).to(self.device) / stage.budget - 1
        self.multiplier = max(0.0, self.multiplier + self.hyper.pressure * float(over.detach()))
        return loss + self.multiplier * over

    def _weights(self) -> dict[str, Tensor]:
        return {site: mixture.weights().cpu() for site, mixture in self.stage.mixtures.items()}

    def _epoch(self) -> None:
        found = accuracy(self.stage.student, self.data.validation, self.static)
        with torch.no_grad():
            cost = None if self.stage.predicted is None else float(self.stage.predicted(self._weights()))
        row = Row(self.stage.name, self.step // self.steps_per_epoch, float(self.total) / self.steps_per_epoch, found, cost)
        self.total.zero_()
        self.rows.append(row)
        self.report(row)
        if found >= self.top:
            self.top = found
            self.best = {name: p.detach().clone() for name, p in self.parameters.items()}

    def _generator(self, use: str, number: int) -> torch.Generator:
        """A generator for each use. `zlib.crc32` gives the same seed on every machine."""
        text = f"{self.hyper.seed} {self.stage.name} {use} {number}"
        return torch.Generator().manual_seed(zlib.crc32(text.encode()))

    # -- checkpoints --

    def save(self) -> None:
        """Write the checkpoint, in the first process only."""
        if not self.group.first:
            return
        moments = self.optimizer.state
        groups: dict[str, Mapping[str, Tensor]] = {"weights": self.parameters, "best": self.best}
        for key in ("exp_avg", "exp_avg_sq"):
            groups[key] = {n: moments[p][key] for n, p in self.parameters.items() if p in moments}
        state = {
            **self.extra,
            "stage": self.stage.name,
            "step": self.step,
            "total": float(self.total),
            "multiplier": self.multiplier,
            "top": self.top,
            "rows": [asdict(row) for row in self.rows],
        }
        self.checkpoint.write(state, groups)

    def _restore(self, snapshot: Snapshot) -> None:
        state, weights = snapshot.state, snapshot.group("weights")
        first, second = snapshot.group("exp_avg"), snapshot.group("exp_avg_sq")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
        for name, parameter in self.parameters.items():
            if name in first:
                moments = {k: m[name].to(self.device, copy=True) for k, m in (("exp_avg", first), ("exp_avg_sq", second))}
                self.optimizer.state[parameter] = {"step": torch.tensor(float(state["step"])), **moments}
        self.step, self.multiplier = state["step"], state["multiplier"]
        self.total.fill_(state["total"])
        self.top, self.best = state["top"], snapshot.group("best")
        self.rows = [Row(**row) for row in state["rows"]]


@torch.no_grad()
def accuracy(module: nn.Module, part: Part, static: int) -> float:
    """Top-1 accuracy as a share; images that do not fill the graph's static batch are left out."""
    device = next((p.device for p in module.parameters()), CPU)
    count = len(part) // static * static
    size = max(1, AT_ONCE // static) * static
    right = 0
    for start in range(0, count, size):
        stop = min(start + size, count)
        logits = batched(module, part.images[start:stop].to(device), static)[0]
        right += int((logits.argmax(-1).cpu() == part.labels[start:stop]).sum())
    return right / count
