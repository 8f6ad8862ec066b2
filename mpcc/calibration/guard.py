"""What a client can see of a wrong answer: its own input and the opened output, held against those of calibration.

    guard = Guard.of(graph, inputs, len(inputs))          a few numbers for each input and output, written into plan.json
    guard.inputs_outside([(image,), (another,)])          before anything is sent: a sentence for each input that is off
    guard.outputs_outside([[logits], [others]])           after the outputs were opened

When parties run, every value in between is secret, so an input far from those of calibration gives an answer that looks like
any other. The statistics are public: they travel with the program, and the client compares them on its own machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.errors import PlanError
from mpcc.ir.kinds import printable

from .ranges import Inputs, over_calls, stack_calls

NOTE = "guard"
"""The note of a plan that holds it."""
FEWEST = 4
"""Inputs from which more than their extremes is compared: fewer say nothing about how much inputs differ."""
BANDS = 4
"""Parts of each dimension whose means are compared: a picture moved by an eighth of its size shows in them, in nothing else."""
END = 1 / 16
"""What counts as an end of the values: the outer sixteenth on either side."""
SPREADS = 4.0
"""The next of n + 1 like inputs is the most extreme in 2 of n + 1 cases, mostly by a little. The slack of 4 / sqrt(n) times what
the n inputs spread over was measured (docs/security.md): 0.7 % of clean digits are outside with n = 256."""
LEAST = 1 / 256
"""Least slack of a statistic, as a share of what the values spread over: one grey level of a picture, and what is rounded."""
OUTPUT_MARGIN = 2.0
"""Programs are compiled for values up to twice what calibration saw (`Settings.margin`): beyond, they may have overflowed."""
DIGITS, TOLD = 4, 3
"""Digits of the statistics that are written down; statistics that are named where several are off."""
SMALLEST, LARGEST = "smallest value", "largest value"
PIXELS = 255.0
AGAIN = "Make the bundle again with `mpcc optimize`."

Interval = tuple[float, float]


@dataclass(frozen=True)
class InputGuard:
    """One input: the interval of each statistic over the calls of calibration."""

    name: str
    statistics: Mapping[str, Interval]

    @property
    def width(self) -> float:
        """What all values together spread over."""
        return self.statistics[LARGEST][1] - self.statistics[SMALLEST][0]


@dataclass(frozen=True)
class Guard:
    """The statistics of `calls` inputs, and the largest magnitude of each output.

    What was seen of `synthetic` inputs says little about real ones: only their extreme values and outputs are compared.
    """

    calls: int
    synthetic: bool
    inputs: tuple[InputGuard, ...] = field(default=())
    outputs: tuple[float, ...] = field(default=())

    @staticmethod
    def of(graph_module: fx.GraphModule, inputs: Inputs, given: int) -> Guard:
        """The guard of calibration inputs: statistics of the first `given`, which are the user's, and a float run for outputs.

        Where these are too few, the extremes of all inputs, whose rest was made from the model.
        """
        columns = stack_calls(graph_module, inputs)
        names = [str(node.target) for node in graph_module.graph.nodes if node.op == "placeholder"]
        seen = []
        used = given if given >= FEWEST else len(columns[0])
        for name, column in zip(names, columns, strict=True):
            values = column[:used].double()
            ends = float(values.min()), float(values.max())
            found = statistics(values, ends) if given >= FEWEST else extremes(values)
            seen.append(InputGuard(name, {key: (_rounded(of.min()), _rounded(of.max())) for key, of in found.items()}))

        def run(*values: Tensor) -> list[Tensor]:
            made = graph_module(*values)
            return [value.detach().abs().amax() for value in (made if isinstance(made, tuple) else (made,))]

        outputs = tuple(_rounded(value.max()) for value in over_calls(graph_module, run, columns))
        return Guard(used, given == 0, tuple(seen), outputs)

    def inputs_outside(self, calls: Sequence[Sequence[Tensor]]) -> tuple[str, ...]:
        """What is unlike calibration in the inputs of these calls; nothing if nothing is."""
        columns = [torch.stack(list(column)) for column in zip(*calls, strict=True)]
        lines = [self._judge(seen, column) for seen, column in zip(self.inputs, columns, strict=True)]
        return tuple(line for line in lines if line is not None)

    def outputs_outside(self, calls: Sequence[Sequence[Tensor]]) -> tuple[str, ...]:
        """Which outputs of these calls are larger than calibration's can be believed to allow."""
        lines = []
        for number, (largest, column) in enumerate(zip(self.outputs, zip(*calls, strict=True), strict=True)):
            found = torch.stack([value.detach().abs().amax().double() for value in column])
            limit = OUTPUT_MARGIN * largest
            if count := int((~(found <= limit)).sum()):
                lines.append(
                    f"output {number}: magnitude {_shown(float(found.max()))}, calibrated up to {_shown(largest)}"
                    f"{_of(count, len(found))}"
                )
        return tuple(lines)

    def _judge(self, seen: InputGuard, column: Tensor) -> str | None:
        values, (low, high) = column.double(), (seen.statistics[SMALLEST][0], seen.statistics[LARGEST][1])
        where = f"input {seen.name}"
        if count := _pixels(values, max(abs(low), abs(high))):
            said = f"whole numbers up to {PIXELS:.0f}, which look like raw pixels; calibrated {_between(low, high)}"
            return f"{where}: {said}{_of(count, len(values))}"
        found, lines, unlike = statistics(values, (low, high)), [], torch.zeros(len(values), dtype=torch.bool)
        for key, (least, most) in seen.statistics.items():
            if key not in found:
                raise PlanError(f"the note {NOTE!r} has an unknown statistic {printable(key[:50])!r}", hint=AGAIN)
            slack = self._slack(seen, key)
            outside = (found[key] < least - slack) | (found[key] > most + slack)
            if outside.any():
                worst = found[key][torch.maximum(least - found[key], found[key] - most).argmax()]
                lines.append(f"{key} {_shown(float(worst))}, calibrated {_between(least, most)}")
                unlike |= outside
        if not lines:
            return None
        more = f"; and {len(lines) - TOLD} more" if len(lines) > TOLD else ""
        return f"{where}: {'; '.join(lines[:TOLD])}{more}{_of(int(unlike.sum()), len(values))}"

    def _slack(self, seen: InputGuard, key: str) -> float:
        least, most = seen.statistics[key]
        whole = 1.0 if key.startswith("share") else seen.width
        return (most - least) * SPREADS / math.sqrt(self.calls) + whole * max(LEAST, 1 / (4 * self.calls))

    def document(self) -> dict[str, Any]:
        """As JSON."""
        inputs = [{"name": seen.name} | {key: list(ends) for key, ends in seen.statistics.items()} for seen in self.inputs]
        return {"calls": self.calls, "synthetic": self.synthetic, "inputs": inputs, "outputs": list(self.outputs)}

    @staticmethod
    def read(document: Any, inputs: int, outputs: int) -> Guard:
        """From JSON, for a program of so many inputs and outputs. PlanError for anything else."""
        try:
            calls, synthetic = document["calls"], document["synthetic"]
            seen = tuple(
                InputGuard(printable(str(entry["name"])), {key: _interval(ends) for key, ends in entry.items() if key != "name"})
                for entry in document["inputs"]
            )
            largest = tuple(_number(value) for value in document["outputs"])
            if type(calls) is not int or calls < 1 or type(synthetic) is not bool:
                raise ValueError("calls")
            if (len(seen), len(largest)) != (inputs, outputs) or any(not {SMALLEST, LARGEST} <= set(s.statistics) for s in seen):
                raise ValueError("inputs and outputs")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise PlanError(f"the note {NOTE!r} is damaged", hint=AGAIN) from None
        return Guard(calls, synthetic, seen, largest)


def extremes(values: Tensor) -> dict[str, Tensor]:
    """The smallest and the largest value of each call; `values` [calls, ...], each statistic [calls]."""
    flat = values.reshape(len(values), -1)
    return {SMALLEST: flat.amin(1), LARGEST: flat.amax(1)}


def statistics(values: Tensor, ends: Interval) -> dict[str, Tensor]:
    """What is compared of each call: extremes, moments, the shares at the `ends` of the values, and where the mass lies."""
    flat = values.reshape(len(values), -1)
    edge = END * (ends[1] - ends[0])
    found = extremes(values) | {
        "mean": flat.mean(1),
        "standard deviation": flat.std(1, correction=0),
        "share of values at the lower end": (flat <= ends[0] + edge).double().mean(1),
        "share of values at the upper end": (flat >= ends[1] - edge).double().mean(1),
    }
    for dim in range(1, values.dim()):
        size = values.shape[dim]
        if size > 1:
            for number, part in enumerate(values.tensor_split(min(BANDS, size), dim)):
                found[f"mean in part {number + 1} of {min(BANDS, size)} of dimension {dim - 1}"] = part.reshape(
                    len(values), -1
                ).mean(1)
    return found


def _pixels(values: Tensor, calibrated: float) -> int:
    """How many calls are whole numbers 0 .. 255 far beyond what was calibrated."""
    flat = values.reshape(len(values), -1)
    high = flat.amax(1)
    whole = (flat == flat.round()).all(1) & (flat.amin(1) >= 0) & (high <= PIXELS) & (high > 4 * max(calibrated, 1.0))
    return int(whole.sum())


def _rounded(value: Tensor) -> float:
    """What rounding adds or takes is within the slack."""
    return float(f"{float(value):.{DIGITS}g}")


def _interval(ends: Any) -> Interval:
    low, high = ends
    return _number(low), _number(high)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _shown(value: float) -> str:
    return f"{value:.4g}"


def _between(low: float, high: float) -> str:
    return f"{_shown(low)} to {_shown(high)}"


def _of(count: int, calls: int) -> str:
    return f" ({count} of {calls} inferences)" if calls > 1 else ""
