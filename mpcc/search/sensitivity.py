"""How much each candidate at each site harms the model's outputs, everything else exact: one sweep over calibration inputs.

The graph runs once a batch of inputs; for each candidate only what follows its site runs again. Measured values are kept
(`mpcc.search.cache`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Split
from mpcc.approximate.expand import site_function
from mpcc.calibration.ranges import values_a_call
from mpcc.cost import uses
from mpcc.cost.price import Call
from mpcc.cost.protocol import multiply_adds
from mpcc.ir.nn import sites
from mpcc.ir.portable import Portable, tensor_of
from mpcc.workers import Work, each

from . import cache
from .metrics import Metric
from .parts import Partly
from .replay import Function, Outputs, Replay

ELEMENTS_KEPT = 1 << 26
"""Values of one batch of calls, all nodes together: 256 MB of float32."""
MULTIPLY_ADDS = 3e12
"""Of a whole sweep: some minutes of one core. Larger models are measured on fewer inputs."""
MOST_CALLS, FEWEST_CALLS = 64, 2

Columns = tuple[Tensor, ...]
Tell = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    return


@dataclass(frozen=True)
class Sensitivity:
    """Measures losses of a graph on `columns` [calls, ...]; `reference` are its own outputs there."""

    module: fx.GraphModule
    columns: Columns
    approximations: Mapping[str, Approximation]
    metric: Metric
    reference: Outputs

    @staticmethod
    def of(
        module: fx.GraphModule, columns: Columns, approximations: Mapping[str, Approximation], metric: Metric
    ) -> Sensitivity:
        reference = _joined([Replay(module, part).outputs({}) for part in batches(module, columns)])
        return Sensitivity(module, columns, approximations, metric, reference)

    def sweep(self, candidates: Mapping[str, Sequence[Choice | Partly]], tell: Tell = _silent) -> dict[str, list[float]]:
        """Site -> loss of each candidate alone, at the whole site or in some part of it. Cached by content."""
        key = cache.key_of(self.module, self.columns, self.metric.source)
        known = cache.read(key)
        names = {site: [self._entry(site, choice) for choice in row] for site, row in candidates.items()}
        todo = {name: (site, i) for site, row in names.items() for i, name in enumerate(row) if name not in known}
        if todo:
            tried = [(site, candidates[site][i]) for site, i in todo.values()]
            for name, outputs in zip(todo, self._outputs(tried, tell), strict=True):
                known[name] = self.metric.loss(outputs, self.reference)
            cache.write(key, known)
        return {site: [known[name] for name in row] for site, row in names.items()}

    def joint(self, choices: Mapping[str, Choice | Split]) -> Outputs:
        """What the graph gives with all these choices."""
        functions = {site: function_of(self.module, site, choice, self.approximations) for site, choice in choices.items()}
        return _joined([Replay(self.module, part, functions).outputs({}) for part in batches(self.module, self.columns)])

    def _outputs(self, tried: Sequence[tuple[str, Choice | Partly]], tell: Tell) -> list[Outputs]:
        """The outputs over all calls with each choice alone at its site."""
        parts, found = batches(self.module, self.columns), list[list[Outputs]]()
        for number, part in enumerate(parts):
            alone = Alone(self.module, part, self.approximations)
            found.append(each(tried, alone, partial(self._elsewhere, part), _of_many(tell, number, len(parts))))
        return [_joined(outputs) for outputs in zip(*found, strict=True)]

    def _elsewhere(self, part: Columns) -> Work[tuple[str, Choice | Partly], Outputs]:
        return Work(_alone, (self._portable, tuple(column.numpy() for column in part), dict(self.approximations)))

    @cached_property
    def _portable(self) -> Portable:
        return Portable.of(self.module)

    def _entry(self, site: str, candidate: Choice | Partly) -> str:
        choice = candidate.choice if isinstance(candidate, Partly) else candidate
        approximation = self.approximations[choice.approximation]
        content: Any = [approximation.name, approximation.function_key(choice.options)]
        if isinstance(candidate, Partly):
            content += [candidate.dim, list(candidate.index)]
        return cache.entry_of(site, content, [approximation])


class Alone:
    """What a graph gives with one choice at one site. The graph runs when that is first asked for."""

    def __init__(self, module: fx.GraphModule, columns: Columns, approximations: Mapping[str, Approximation]) -> None:
        self.module, self.columns, self.approximations = module, columns, approximations
        self._replay: Replay | None = None
        self._lock = threading.Lock()

    def __call__(self, tried: tuple[str, Choice | Partly]) -> Outputs:
        site, choice = tried
        with self._lock:  # one of several threads runs the graph, the others wait for it
            if self._replay is None:
                self._replay = Replay(self.module, self.columns)
        return self._replay.outputs({site: function_of(self.module, site, choice, self.approximations)})


def _alone(
    portable: Portable, columns: Sequence[np.ndarray[Any, Any]], approximations: Mapping[str, Approximation]
) -> Alone:
    return Alone(portable.module(), tuple(map(tensor_of, columns)), approximations)


def function_of(
    module: fx.GraphModule, site: str, choice: Choice | Split | Partly, approximations: Mapping[str, Approximation]
) -> Function:
    """The float function of a choice at a site."""
    node = sites(module)[site]
    if isinstance(choice, Partly):
        return choice.function(node, approximations)
    return site_function(node, choice, approximations)


def _of_many(tell: Tell, number: int, count: int) -> Tell:
    """What tells of one of several equal rounds."""
    return lambda done, total: tell(number * total + done, count * total)


def batches(module: fx.GraphModule, columns: Columns, kept: int = ELEMENTS_KEPT) -> list[Columns]:
    """The calls in batches whose values fit into memory."""
    step = max(1, kept // max(1, values_a_call(module)))
    return [tuple(c[start : start + step] for c in columns) for start in range(0, len(columns[0]), step)]


def _joined(parts: Sequence[Outputs]) -> Outputs:
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def affordable(module: fx.GraphModule, candidates: Mapping[str, Sequence[Any]]) -> int:
    """How many calls of a sweep over these candidates stay within MULTIPLY_ADDS: half the graph a candidate, on average."""
    once = sum(
        float(multiply_adds(Call(use.primitive, use.shapes, use.visibility, use.output, use.attrs))) for use in uses(module)
    )
    return int(MULTIPLY_ADDS // max(1.0, once * sum(len(row) for row in candidates.values()) / 2))


def affordable_calls(
    module: fx.GraphModule, candidates: Mapping[str, Sequence[Any]], calibrated: bool = True, most: int = MOST_CALLS
) -> int:
    """How many calls a sweep over these candidates takes: at least a few, whatever it costs.

    On noise it is not worth much time: 0 if that would not do, and then errors at the sites have to serve.
    """
    calls = affordable(module, candidates)
    if calibrated:
        return min(most, max(FEWEST_CALLS, calls))
    return min(most, calls // 10) if calls // 10 >= FEWEST_CALLS else 0
