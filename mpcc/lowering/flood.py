"""How much noise the outputs are flooded with: so much that the steps of truncations do not show in many answers.

A truncation through an opening gives floor(X / 2^f) + [X mod 2^f > c mod 2^f]. The client knows c, so each output is a sum of
steps at hidden places (low bits of hidden values) with heights d = d outputs / d unit (made of weights). With Gaussian noise
of standard deviation s in every output, N answers tell at most

    N |d|^2 / (8 s^2) nats      about one step, its place and its height (a channel of signal power at most |d|^2 / 4)

whatever inputs are asked, and s = |d| sqrt(N) / 2 makes that half a nat: an estimate of the step from N answers has a standard
error of its own length in every output. The noise is a sum of uniform numbers (`dealer.noise`), smooth and close to Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from mpcc.errors import PrecisionError
from mpcc.ir import dealer, online
from mpcc.ir.nn import size_of
from mpcc.ir.opcodes import NOISE_BITS
from mpcc.program.program import Program
from mpcc.security import ENDLESS

from .settings import Settings
from .steps import squared_steps
from .values import LIMIT

VALUES_AT_MOST = 1 << 22
"""Values of a program over all calls that are looked at, unless one call has more: so that it takes no longer than lowering."""
RARE = 1e-3
"""Of all truncated values, those whose steps may be higher. In a deep model a few in a thousand are ten times as high as the rest
(logits of the first layers' attention, at the inputs that were looked at), and noise for them would drown the outputs. The
statement says so in per cent (`mpcc.security.hides`)."""
GRID = 2
"""Outputs are rounded to a quarter of the noise: what is finer says nothing (the rounding adds a hundredth of its variance)."""


FACTORS = (1, 3, 5, 7, 9, 11, 13, 15)
"""What an output's share may be multiplied by before noise of a power of two of units is added: so the noise is at most an eighth
more than what is wanted, not up to twice."""
DIGITS = 2
"""Of the number of answers that is said, as of the probability that a program fails."""
UNSEEN = 4.0
"""How much larger than those looked at an output may be, where it is multiplied."""


@dataclass(frozen=True)
class Noise:
    """Of one output: its share times `factor`, plus noise whose standard deviation is 2^bits of what is then a unit."""

    bits: int = 0
    factor: int = 1

    def deviation(self, scale: float) -> float:
        """Of an output that had this scale before."""
        return 2.0**self.bits / (abs(scale) * self.factor)


@dataclass(frozen=True)
class Exposure:
    """What a program's truncations do to its outputs: `step` is the |d| that all but a RARE part of them stay below, `spread`
    the standard deviation of the outputs (their size, if they are all one), `largest` the largest of them."""

    step: float
    spread: float
    largest: float

    @staticmethod
    def of(program: Program, calls: Sequence[Sequence[Tensor]]) -> Exposure:
        """The largest over some calls' inputs; over fewer where one call has many values, which see many inputs themselves.

        PrecisionError where values or slopes are no numbers: functions that leave their range grow without a bound."""
        values = sum(size_of(node) for node in program.online.graph.nodes if node.op == "call_function")
        found = [_exposure(program, inputs) for inputs in calls[: max(1, VALUES_AT_MOST // values)]]
        outputs = torch.stack([seen for _, seen in found]).double()
        spread, size = float(outputs.std(correction=0)), float(outputs.square().mean().sqrt())
        largest = float(outputs.abs().max()) if outputs.numel() else 0.0
        if not all(map(math.isfinite, (spread, size, *(step for step, _ in found)))):
            what = "at an input of calibration the values of the program grow past all bounds"
            raise PrecisionError(what, hint="Choose other approximations (a lower --level, or --plan).")
        return Exposure(max(step for step, _ in found), spread if spread > 1e-6 * size else size, largest)

    def hidden(self, deviation: float) -> float:
        """For how many answers noise of this standard deviation hides such a step, as above; infinite where there is none."""
        return math.inf if self.step == 0 else (2 * deviation / self.step) ** 2

    def answers(self, sizes: Sequence[Noise], scales: Sequence[float], asked: int) -> int:
        """In how many answers noise of these sizes hides such a step, by the output (of these scales) that hides it least.

        Rounded down to DIGITS digits, but not below what was `asked`: the number is public, and steps are made of weights."""
        deviations = [size.deviation(scale) if size.bits else 0.0 for size, scale in zip(sizes, scales, strict=True)]
        found = math.floor(min(ENDLESS, self.hidden(min(deviations))))
        unit = int(10 ** max(0, len(str(found)) - DIGITS))
        return max(found // unit * unit, asked if asked <= found else 0)

    def noise(self, settings: Settings, scale: float) -> Noise:
        """Of an output of this scale: the least that hides `answers`, or the most within the share of the spread."""
        wanted, allowed = self.step * math.sqrt(settings.answers) / 2, settings.flood * self.spread
        if wanted == 0 or allowed * abs(scale) < 1:  # nothing to hide; or outputs are rounded to more than is allowed
            return Noise()
        room = 2.0**LIMIT / (abs(scale) * (UNSEEN * self.largest + 2 * dealer.NOISE_REACH * min(wanted, allowed)))
        enough, most = list[Noise](), list[Noise]()
        for factor in (one for one in FACTORS if one == 1 or one <= room):
            enough.append(Noise(max(1, _within(math.ceil(math.log2(wanted * abs(scale) * factor)))), factor))
            if math.isfinite(allowed):
                most.append(Noise(_within(math.floor(math.log2(allowed * abs(scale) * factor))), factor))
        fitting = [one for one in enough if one.deviation(scale) <= allowed]
        if fitting:
            return min(fitting, key=lambda one: one.deviation(scale))
        return max(most, key=lambda one: one.deviation(scale))


def _within(bits: int) -> int:
    return max(0, min(NOISE_BITS, bits))


def _exposure(program: Program, inputs: Sequence[Tensor]) -> tuple[float, Tensor]:
    squares, outputs = squared_steps(program, inputs)
    if not squares:
        return 0.0, outputs
    every = torch.cat([square.reshape(-1) for square in squares.values()])
    above = 1 + math.floor(RARE * len(every))
    return math.sqrt(float(every.topk(above).values[-1])), outputs


def flood(program: Program, sizes: Sequence[Noise], hidden: int | None = None) -> Program:
    """A new program with noise of these sizes on its outputs, which hides its steps in so many answers."""
    dealt, sources = dict(program.correlations), {node.name: node for node in program.dealer.graph.nodes}
    outputs, done = [], set[fx.Node]()
    for (name, scale), size in zip(program.outputs, sizes, strict=True):
        flooded = program.nodes[name].all_input_nodes[0]
        share, noise = flooded.all_input_nodes
        source = sources[dealt[noise.name]]
        assert flooded.target is online.flooded and source.target is dealer.noise
        source.update_arg(1, size.bits)
        flooded.update_arg(2, max(0, size.bits - GRID))
        if size.factor != 1 and flooded not in done:  # a value that is two outputs has one noise
            with program.online.graph.inserting_before(flooded):
                larger = program.online.graph.call_function(online.times, (share, size.factor))
            larger.meta.update(flooded.meta)
            flooded.update_arg(0, larger)
        done.add(flooded)
        outputs.append((name, scale * size.factor))
    return replace(program, outputs=tuple(outputs), hidden=hidden)
