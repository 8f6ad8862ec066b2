"""Search with training, then distillation: mixtures -> train under the budget -> pick -> train on -> fit -> program.

    made = mpcc.tune(model, "digits", example_inputs, budget="2s")
    made.save("private.mpcc")

The original model is the teacher throughout. Training after the picks starts from it compensated for them (`start`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from mpcc import pipeline
from mpcc.approximate.recipe import DEFAULT, LABELS_ONLY
from mpcc.cost import Budget, Network
from mpcc.ir.nn import inputs_of

from .checkpoint import Checkpoint, Snapshot
from .choose import RESERVE, choose, load_weights, prices_of
from .data import Data, load_data
from .discretise import Picks
from .distil import taps
from .finish import Tuned, finish
from .group import Group, group
from .mixture import Mixture, Picked, replaced, weights_of
from .request import Request
from .setup import set_up
from .start import start_compensated
from .trainer import Hyperparameters, Progress, Row, Stage, Trainer

if TYPE_CHECKING:
    from mpcc.pipeline.steps import Model


def tune(
    model: Model,
    data: str | Data,
    example_inputs: Sequence[Any] | None = None,
    *,
    method: str = DEFAULT,
    mu: float | None = None,
    budget: str | Budget | None = None,
    protocol: str = "mpcc",
    network: str | Network = "lan",
    machine: str | None = None,
    granularity: str | None = None,
    distil: bool = True,
    attention_maps: bool = False,
    search_epochs: int = 5,
    compensate: bool = True,
    hyperparameters: Hyperparameters | None = None,
    images: int | None = None,
    device: str | Group | None = None,
    checkpoint: str | Path | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    report: Callable[[Row], None] | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """The model searched with training under a budget and distilled from the original; what `mpcc tune` does.

    `model`: whatever `mpcc.capture` takes. `data`: labelled images, as `--data` names them, at most `images` of them for
    training. `method`: a recipe's name ("NAME:0.5", or "NAME" with `mu`; `mpcc recipes` lists them). `budget` bounds the
    predicted online phase of one inference: "2s", "30MB", "150rounds". `compensate`: training starts from weights that make up
    for what was picked, in closed form, where these are better. `checkpoint`: a file from which an interrupted call
    with the same arguments goes on. `report` receives every epoch's `Row`. BudgetError where the budget cannot be met.
    """
    request = Request.of(
        method, mu=mu, budget=budget, protocol=protocol, network=network, granularity=granularity, distil=distil,
        attention_maps=attention_maps, search_epochs=search_epochs, machine=machine, compensate=compensate,
    )  # fmt: skip
    hyper = hyperparameters or Hyperparameters()
    graph = pipeline.capture(model, example_inputs, input_shapes=input_shapes)
    shape = tuple(inputs_of(graph)[0].meta["val"].shape)
    loaded = data if isinstance(data, Data) else load_data(data, shape, hyper.seed, images)
    with nullcontext(device) if isinstance(device, Group) else group(device) as members:
        place = None if checkpoint is None else Path(checkpoint)
        return Tuning(graph, loaded, request, hyper, place, group=members, report=report, progress=progress).run()


class Tuning:
    """One training. `run` does all of it, from the checkpoint if there is one."""

    def __init__(
        self, model: fx.GraphModule, data: Data, request: Request, hyper: Hyperparameters, checkpoint: Path | None = None,
        *, group: Group | None = None, report: Callable[[Row], None] | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.report, self.progress = report or (lambda row: None), progress or (lambda stage, done, total: None)
        self.request, self.hyper = request, hyper
        self.setup = set_up(model, data, request, hyper, group or Group(), self.progress)
        self.checkpoint = Checkpoint(checkpoint, self.setup.identity())

    def run(self) -> Tuned:
        """Search, pick, train on, fit."""
        setup, distillation = self.setup, self.request.distillation
        compared = taps(setup.base, distillation)
        teacher = replaced(setup.base, {}, compared.nodes).requires_grad_(False)
        snapshot = self.checkpoint.read()
        picks, weights, rows, snapshot = self._picked(teacher, snapshot)
        modules = {gate.site: Picked(gate, picks[gate.site], setup.known) for gate in setup.gates}
        student = replaced(setup.base, modules, compared.nodes)
        load_weights(student, weights)
        if self.request.compensate and (snapshot is None or snapshot.state["stage"] != "train"):
            self.progress("compensate", 0, 1)
            start_compensated(setup, student, picks)
            self.progress("compensate", 1, 1)
        epochs = self.hyper.epochs + (0 if self.request.searches else self.request.search_epochs)
        extra = {"picks": {site: list(chosen) for site, chosen in picks.items()}, "before": [asdict(row) for row in rows]}
        trainer = self._trainer(Stage("train", student, teacher, distillation, compared), epochs, extra)
        trainer.run(snapshot)
        load_weights(student, trainer.best)
        return finish(setup, student, teacher, picks, (*rows, *trainer.rows), trainer.top, self.checkpoint)

    def _picked(
        self, teacher: fx.GraphModule, snapshot: Snapshot | None
    ) -> tuple[Picks, dict[str, Tensor], list[Row], Snapshot | None]:
        """Picks, the weights to go on from, the rows so far, and the snapshot if the next stage goes on from it."""
        if snapshot is not None and "picks" in snapshot.state:
            picks = {site: tuple(chosen) for site, chosen in snapshot.state["picks"].items()}
            return picks, {}, [Row(**row) for row in snapshot.state["before"]], snapshot
        if not self.request.searches:
            return {gate.site: (0,) * gate.positions for gate in self.setup.gates}, {}, [], snapshot
        return *self._searched(teacher, snapshot), None

    def _searched(
        self, teacher: fx.GraphModule, snapshot: Snapshot | None
    ) -> tuple[Picks, dict[str, Tensor], list[Row]]:
        """Train the mixtures, on the labels alone, and pick."""
        setup, request, recipe = self.setup, self.request, self.request.recipe
        prices = prices_of(setup)
        mixtures = {gate.site: Mixture(gate, setup.known, paired=recipe.choice == "share") for gate in setup.gates}
        student = replaced(setup.base, dict(mixtures))
        limit = None if request.budget is None or recipe.choice != "budget" else request.budget.amount * RESERVE
        stage = Stage(
            "search", student, teacher, LABELS_ONLY, taps(setup.base, LABELS_ONLY), mixtures, prices.predicted, limit,
            recipe.penalty,
        )  # fmt: skip
        trainer = self._trainer(stage, request.search_epochs, {})
        trainer.run(snapshot)
        scores = {site: mixture.weights().detach() for site, mixture in mixtures.items()}
        trained = {name: p.detach().clone() for name, p in weights_of(student).items()}
        return choose(setup, scores, prices, student), trained, trainer.rows

    def _trainer(self, stage: Stage, epochs: int, extra: Mapping[str, Any]) -> Trainer:
        hyper, setup = replace(self.hyper, epochs=epochs), self.setup
        return Trainer(
            stage, setup.data, hyper, setup.static, setup.group, self.checkpoint, extra, self.report, self.progress
        )


__all__ = ["Tuned", "Tuning", "tune"]
