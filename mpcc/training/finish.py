"""The end of a training: the trained model fitted, made a program, checked against the budget, and measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import fx

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.calibration import range_report
from mpcc.calibration.basis import Basis
from mpcc.errors import BudgetError
from mpcc.pipeline import Optimized
from mpcc.runtime.engine.fidelity import compare
from mpcc.search import layouts
from mpcc.search.pricing import fastest, reached, stock_estimate

from .checkpoint import Checkpoint
from .choose import with_weights
from .discretise import Picks
from .fitting import fitted_plan
from .mixture import Picked, replaced
from .setup import Setup
from .trainer import Row, accuracy


@dataclass(frozen=True)
class Tuned:
    """`optimized` is what a bundle is made of; `picks`: site -> approximation of each position. Accuracies are shares;
    `accuracy` and `original_accuracy` are of `test_images` images that were used for nothing else."""

    optimized: Optimized
    rows: tuple[Row, ...]
    picks: Mapping[str, tuple[str, ...]]
    accuracy: float
    original_accuracy: float
    validation_accuracy: float
    test_images: int
    checkpoint: Checkpoint

    @property
    def standard_error(self) -> float:
        """Binomial, of `accuracy`."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.test_images)

    def save(self, folder: str | Path) -> Path:
        """Write the bundle (see `Optimized.save`) and delete the checkpoint."""
        place = self.optimized.save(folder)
        self.checkpoint.remove()
        return place


def finish(
    setup: Setup, student: fx.GraphModule, teacher: fx.GraphModule, picks: Picks, rows: tuple[Row, ...], validation: float,
    checkpoint: Checkpoint,
) -> Tuned:  # fmt: skip
    """BudgetError where the program of the trained model exceeds the budget, PrecisionError where it is too coarse."""
    trained = with_weights(setup, student)
    picked = replaced(trained, {gate.site: Picked(gate, picks[gate.site], setup.known) for gate in setup.gates})
    plan = fitted_plan(trained, picked, setup.inputs, setup.gates, picks, setup.known)
    prepared = replace(setup.prepared, graph=trained)
    best = fastest([Plan(one.choices, _notes(setup)) for one in layouts(plan, setup.known)], setup.task(prepared))
    request = setup.request
    if request.budget is not None and not request.budget.met_by(best.estimate):
        raise BudgetError(
            f"the trained model does not meet the budget of {request.budget}",
            hint=f"It takes {reached(best.estimate)}. Give a larger --budget{', or a smaller --mu' if request.share else ''}.",
        )
    plan = replace(best.plan, notes={**best.plan.notes, "seconds": float(best.estimate.seconds)})
    source = setup.prepared.source
    baseline = stock_estimate(source, registry.protocol(request.protocol), request.network)
    optimized = Optimized(
        trained, plan, best.estimate, baseline, best.program, source,
        compare(student, best.program, setup.inputs), Basis(len(setup.inputs)),
        ranges=tuple(range_report(trained, best.plan, setup.known, prepared.inputs)),
    )  # fmt: skip
    names = {gate.site: tuple(gate.candidates[k].name for k in picks[gate.site]) for gate in setup.gates}
    test, static = setup.data.test, setup.static
    return Tuned(
        optimized, rows, names, accuracy(student, test, static), accuracy(teacher, test, static), validation, len(test),
        checkpoint,
    )  # fmt: skip


def _notes(setup: Setup) -> dict[str, Any]:
    return {**setup.task(setup.prepared).notes, "made_by": "tune", "method": setup.request.recipe.name, "calibrated": True}
