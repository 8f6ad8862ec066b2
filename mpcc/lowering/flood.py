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
from dataclasses import dataclass

import torch
from torch import Tensor

from mpcc.ir import dealer, online
from mpcc.ir.nn import size_of
from mpcc.ir.opcodes import NOISE_BITS
from mpcc.program.program import Program

from .settings import Settings
from .steps import squared_steps

VALUES_AT_MOST = 1 << 22
"""Values of a program over all calls that are looked at, unless one call has more: so that it takes no longer than lowering."""
RARE = 1e-3
"""Of all truncated values, those whose steps may be higher. In a deep model a few in a thousand are ten times as high as the rest
(logits of the first layers' attention, at the inputs that were looked at), and noise for them would drown the outputs."""
GRID = 2
"""Outputs are rounded to a quarter of the noise: what is finer says nothing (the rounding adds a hundredth of its variance)."""


@dataclass(frozen=True)
class Exposure:
    """What a program's truncations do to its outputs: `step` is the |d| that all but a RARE part of them stay below, `spread`
    the standard deviation of the outputs (their size, if they are all one)."""

    step: float
    spread: float

    @staticmethod
    def of(program: Program, calls: Sequence[Sequence[Tensor]]) -> Exposure:
        """The largest over some calls' inputs; over fewer where one call has many values, which see many inputs themselves."""
        values = sum(size_of(node) for node in program.online.graph.nodes if node.op == "call_function")
        found = [_exposure(program, inputs) for inputs in calls[: max(1, VALUES_AT_MOST // values)]]
        outputs = torch.stack([seen for _, seen in found]).double()
        spread, size = float(outputs.std(correction=0)), float(outputs.square().mean().sqrt())
        return Exposure(max(step for step, _ in found), spread if spread > 1e-6 * size else size)

    def hidden(self, deviation: float) -> float:
        """For how many answers noise of this standard deviation hides such a step, as above; infinite where there is none."""
        return math.inf if self.step == 0 else (2 * deviation / self.step) ** 2

    def bits(self, settings: Settings, scale: float) -> int:
        """log2 of the noise in units of an output of this scale: what hides `answers`, within the share of the spread."""
        wanted = self.step * math.sqrt(settings.answers) / 2 * abs(scale)
        allowed = settings.flood * self.spread * abs(scale)
        if wanted <= 0 or allowed < 1:
            return 0
        bits = math.ceil(math.log2(wanted))
        return max(0, min(NOISE_BITS, bits if 2.0**bits <= allowed else math.floor(math.log2(allowed))))


def _exposure(program: Program, inputs: Sequence[Tensor]) -> tuple[float, Tensor]:
    squares, outputs = squared_steps(program, inputs)
    if not squares:
        return 0.0, outputs
    every = torch.cat([square.reshape(-1) for square in squares.values()])
    above = 1 + math.floor(RARE * len(every))
    return math.sqrt(float(every.topk(above).values[-1])), outputs


def flood(program: Program, bits: Sequence[int]) -> None:
    """Give the noise of each output of a new program its size: the standard deviation is 2^bits units."""
    dealt, sources = dict(program.correlations), {node.name: node for node in program.dealer.graph.nodes}
    for (name, _), size in zip(program.outputs, bits, strict=True):
        flooded = program.nodes[name].all_input_nodes[0]
        source = sources[dealt[flooded.all_input_nodes[1].name]]
        assert flooded.target is online.flooded and source.target is dealer.noise
        source.update_arg(1, size)
        flooded.update_arg(2, max(0, size - GRID))
