"""What a training starts from: the prepared model, its gates, and the cost of picks that are not trained yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from torch import Tensor, fx

from mpcc import pipeline, registry
from mpcc.approximate import Approximation
from mpcc.cost import Estimate
from mpcc.cost.machine import THIS
from mpcc.errors import UsageError
from mpcc.ir.nn import attribute, inputs_of, sites
from mpcc.pipeline import Prepared
from mpcc.search.pricing import priced
from mpcc.search.target import Objective, Target
from mpcc.search.task import Task

from .data import Data
from .discretise import Picks
from .fitting import provisional_plan, untrained
from .group import Group
from .mixture import Gate, gate
from .request import Request
from .trainer import Hyperparameters, Progress

CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class Setup:
    """`static`: images per call of the graph; `inputs`: the training images that everything is fitted to.

    `target`: the request's, with the machine found at the start, whatever is measured while the training goes on.
    """

    request: Request
    target: Target
    data: Data
    hyper: Hyperparameters
    group: Group
    known: Mapping[str, Approximation]
    static: int
    inputs: Tensor
    prepared: Prepared
    gates: tuple[Gate, ...]

    @property
    def base(self) -> fx.GraphModule:
        """The rewritten graph with the original weights."""
        return self.prepared.graph

    def estimate(self, picks: Picks, weights: fx.GraphModule | None = None) -> Estimate:
        """The cost of picks before they are trained, with the original weights or those of a graph. RangeError where values
        grow out of the ring."""
        graph = weights or self.base
        plan = provisional_plan(graph, self.inputs, self.gates, picks, self.known)
        # The program's precision means nothing yet: training goes on. Noise on its outputs takes time to size, and costs nothing.
        target = self.target.unchecked
        quiet = replace(target, settings=replace(target.settings, answers=0))
        return priced(self.task(replace(self.prepared, graph=graph), quiet), plan)

    def task(self, prepared: Prepared, target: Target | None = None) -> Task:
        """What `pricing` takes, for the target of the request or another one."""
        return pipeline.task_of(prepared, target or self.target, Objective("structural"))

    def identity(self) -> str:
        """A digest of all that changes the result: the model, the data and every setting. The number of processes is none: a
        batch is counted over all of them, and a training may go on with another number."""
        digest = hashlib.sha256()
        for node in self.base.graph.nodes:
            digest.update(f"{node.name} {node.target} {node.args}".encode())
            if node.op == "get_attr":
                digest.update(attribute(self.base, str(node.target)).detach().contiguous().numpy().tobytes())
        for part in (self.data.training, self.data.validation):
            digest.update(part.labels.numpy().tobytes())
            digest.update(part.images[:16].contiguous().numpy().tobytes())
        candidates = [[candidate.use for candidate in gate.candidates] for gate in self.gates]
        settings = {name: value for name, value in asdict(self.hyper).items() if name != "checkpoint_seconds"}
        # A training that goes on may do so after this machine was measured anew; another machine makes it another training.
        named = self.request.machine not in (None, THIS)
        machine = pipeline.compute_of(self.target).note if named else None
        everything = [vars(self.request), machine, candidates, settings]
        digest.update(json.dumps(everything, default=str, sort_keys=True).encode())
        return digest.hexdigest()


def set_up(
    model: fx.GraphModule, data: Data, request: Request, hyper: Hyperparameters, group: Group, progress: Progress
) -> Setup:
    """UsageError where the model, the data and the request do not fit one another."""
    static = _images_per_call(model)
    _check_sizes(data, hyper, group)
    inputs = data.training.images[: CALIBRATION_IMAGES // static * static]
    prepared, target = pipeline.prepared_for(request.target, model, calibration=inputs, progress=progress)
    known = registry.approximations()
    return Setup(request, target, data, hyper, group, known, static, inputs, prepared, gates_of(prepared, request, known))


def gates_of(prepared: Prepared, request: Request, known: Mapping[str, Approximation]) -> tuple[Gate, ...]:
    """A gate for every site that the recipe has alternatives for, with the candidates that apply there. UsageError where one
    is missing that the recipe needs."""
    recipe = request.recipe
    found: list[Gate] = []
    alternatives = recipe.alternatives(known)
    for site, node in sites(prepared.graph).items():
        statistics = prepared.statistics[site]
        operator = statistics.site.operator
        uses = alternatives.get(operator, ())
        if not uses:
            continue
        candidates = [c for c in (untrained(use, statistics, known) for use in uses) if c is not None]
        if not candidates or (recipe.choice != "budget" and len(candidates) < len(uses)):
            names = ", ".join(use.approximation for use in uses)
            raise UsageError(f"the recipe {recipe.name} needs {names}, and not all of them apply", where=f"site {site}")
        found.append(gate(node, request.granularity_at(operator), candidates))
    if not found and alternatives:
        raise UsageError(f"the model has no operator that the recipe {recipe.name} replaces: there is nothing to tune")
    return tuple(found)


def _images_per_call(model: fx.GraphModule) -> int:
    shapes = [tuple(node.meta["val"].shape) for node in inputs_of(model)]
    if len(shapes) != 1 or not shapes[0]:
        raise UsageError(f"a model with {len(shapes)} inputs cannot be tuned: it must take images alone")
    return int(shapes[0][0])


def _check_sizes(data: Data, hyper: Hyperparameters, group: Group) -> None:
    if hyper.batch % group.size:
        raise UsageError(f"a batch of {hyper.batch} cannot be divided among {group.size} processes", where="--batch")
    if len(data.training) < hyper.batch:
        what = f"{len(data.training)} training images are fewer than one batch of {hyper.batch}"
        raise UsageError(what, where="--batch", hint="Give more images, or a smaller batch (--batch 16).")
