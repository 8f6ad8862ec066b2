"""Whether an input and an answer are like those of calibration: the comparison of `mpcc.calibration.guard`, in numpy.

Nobody can see inside a private computation that a value has left its range; the client can at its two ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]

# These are the numbers of mpcc.calibration.guard, where their derivation is; a test compares the two.
SPREADS, LEAST, OUTPUT_MARGIN, TOLD = 4.0, 1 / 256, 2.0, 3
END, BANDS, PIXELS = 1 / 16, 4, 255.0
SMALLEST, LARGEST = "smallest value", "largest value"


@dataclass(frozen=True)
class Ranges:
    """The interval of each statistic of each input over `calls` calls of calibration, and each output's largest magnitude."""

    calls: int
    inputs: tuple[Mapping[str, Interval], ...]
    names: tuple[str, ...]
    outputs: tuple[float, ...]

    @staticmethod
    def read(document: Any, inputs: int, outputs: int) -> Ranges:
        """ValueError, KeyError, TypeError for anything else than such a document."""
        calls, seen = document["calls"], document["inputs"]
        intervals = tuple({str(key): _interval(ends) for key, ends in one.items() if key != "name"} for one in seen)
        largest = tuple(_number(value) for value in document["outputs"])
        if type(calls) is not int or calls < 1 or (len(intervals), len(largest)) != (inputs, outputs):
            raise ValueError("the calibrated ranges")
        if any(not {SMALLEST, LARGEST} <= set(one) for one in intervals):
            raise ValueError("the calibrated ranges")
        return Ranges(calls, intervals, tuple(str(one["name"])[:200] for one in seen), largest)

    def inputs_outside(self, values: Sequence[Floats]) -> list[str]:
        """What is unlike calibration in the inputs of one call."""
        judged = [self._judge(*one) for one in zip(self.names, self.inputs, values, strict=True)]
        return [line for line in judged if line is not None]

    def outputs_outside(self, values: Sequence[Floats]) -> list[str]:
        """Which outputs of one call are too large to be believed."""
        lines = []
        for number, (largest, value) in enumerate(zip(self.outputs, values, strict=True)):
            found = float(np.abs(value).max(initial=0.0))
            if not found <= OUTPUT_MARGIN * largest:
                lines.append(f"output {number}: magnitude {found:.4g}, calibrated up to {largest:.4g}")
        return lines

    def _judge(self, name: str, seen: Mapping[str, Interval], value: Floats) -> str | None:
        low, high = seen[SMALLEST][0], seen[LARGEST][1]
        if _raw_pixels(value, max(abs(low), abs(high))):
            said = f"whole numbers up to {PIXELS:.0f}, which look like raw pixels"
            return f"input {name}: {said}; calibrated {low:.4g} to {high:.4g}"
        found, lines = statistics(value, (low, high)), []
        for key, (least, most) in seen.items():
            whole = 1.0 if key.startswith("share") else high - low
            slack = (most - least) * SPREADS / math.sqrt(self.calls) + whole * max(LEAST, 1 / (4 * self.calls))
            if key in found and not least - slack <= found[key] <= most + slack:
                lines.append(f"{key} {found[key]:.4g}, calibrated {least:.4g} to {most:.4g}")
        more = f"; and {len(lines) - TOLD} more" if len(lines) > TOLD else ""
        return f"input {name}: {'; '.join(lines[:TOLD])}{more}" if lines else None


def statistics(value: Floats, ends: Interval) -> dict[str, float]:
    """What is compared of one call: extremes, moments, the shares at the ends, and where the mass lies."""
    edge = END * (ends[1] - ends[0])
    found = {
        SMALLEST: value.min(),
        LARGEST: value.max(),
        "mean": value.mean(),
        "standard deviation": value.std(),
        "share of values at the lower end": (value <= ends[0] + edge).mean(),
        "share of values at the upper end": (value >= ends[1] - edge).mean(),
    }
    for dim, size in enumerate(value.shape):
        bands = min(BANDS, size)
        if size > 1:
            for number, part in enumerate(np.array_split(value, bands, dim)):
                found[f"mean in part {number + 1} of {bands} of dimension {dim}"] = part.mean()
    return {key: float(one) for key, one in found.items()}


def _raw_pixels(value: Floats, calibrated: float) -> bool:
    high = float(value.max())
    whole = bool((value == np.rint(value)).all()) and float(value.min()) >= 0 and high <= PIXELS
    return whole and high > 4 * max(calibrated, 1.0)


def _interval(ends: Any) -> Interval:
    low, high = ends
    return _number(low), _number(high)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("the calibrated ranges")
    return float(value)
