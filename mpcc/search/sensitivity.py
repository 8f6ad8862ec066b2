"""How much each candidate at each site harms the model's outputs, everything else exact: one sweep over calibration inputs.

The graph runs once a batch of inputs; for each candidate only what follows its site runs again. Measured values are kept
(`mpcc.search.cache`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Split
from mpcc.approximate.expand import site_function
from mpcc.calibration.ranges import values_a_call
from mpcc.cost import uses
from mpcc.cost.price import Call
from mpcc.cost.protocol import multiply_adds
from mpcc.ir.nn import sites

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

    def function(self, site: str, choice: Choice | Split | Partly) -> Function:
        """The float function of a choice."""
        node = sites(self.module)[site]
        if isinstance(choice, Partly):
            return choice.function(node, self.approximations)
        return site_function(node, choice, self.approximations)

    def sweep(self, candidates: Mapping[str, Sequence[Choice | Partly]], tell: Tell = _silent) -> dict[str, list[float]]:
        """Site -> loss of each candidate alone, at the whole site or in some part of it. Cached by content."""
        key = cache.key_of(self.module, self.columns, self.metric.source)
        known = cache.read(key)
        names = {site: [self._entry(site, choice) for choice in row] for site, row in candidates.items()}
        todo = {name: (site, i) for site, row in names.items() for i, name in enumerate(row) if name not in known}
        if todo:
            functions = [{site: self.function(site, candidates[site][i])} for site, i in todo.values()]
            for name, outputs in zip(todo, self._outputs(functions, {}, tell), strict=True):
                known[name] = self.metric.loss(outputs, self.reference)
            cache.write(key, known)
        return {site: [known[name] for name in row] for site, row in names.items()}

    def joint(self, choices: Mapping[str, Choice | Split]) -> Outputs:
        """What the graph gives with all these choices."""
        functions = {site: self.function(site, choice) for site, choice in choices.items()}
        return _joined([Replay(self.module, part, functions).outputs({}) for part in batches(self.module, self.columns)])

    def _outputs(
        self, variants: Sequence[Mapping[str, Function]], base: Mapping[str, Function], tell: Tell
    ) -> list[Outputs]:
        """The outputs of each variant of `base`, over all calls."""
        parts = batches(self.module, self.columns)
        found: list[list[Outputs]] = [[] for _ in variants]
        for number, part in enumerate(parts):
            replay = Replay(self.module, part, base)
            for index, variant in enumerate(variants):
                found[index].append(replay.outputs(variant))
                tell(number * len(variants) + index + 1, len(parts) * len(variants))
        return [_joined(outputs) for outputs in found]

    def _entry(self, site: str, candidate: Choice | Partly) -> str:
        choice = candidate.choice if isinstance(candidate, Partly) else candidate
        approximation = self.approximations[choice.approximation]
        content: Any = [approximation.name, approximation.function_key(choice.options)]
        if isinstance(candidate, Partly):
            content += [candidate.dim, list(candidate.index)]
        return cache.entry_of(site, content, [approximation])


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
