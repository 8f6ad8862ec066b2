"""Lowering as a whole: until what was assumed about the values holds, then once more, with openings as narrow as they can be."""

from __future__ import annotations

import itertools
from dataclasses import replace

from torch import fx

from mpcc.ir import verify_mpc
from mpcc.ir.value_range import EXAMPLES
from mpcc.program import structure
from mpcc.program.program import Program

from . import widths
from .flood import Exposure, flood
from .lower import Lowering
from .narrowing import Tried
from .settings import Settings

LOCAL_PART, LEAST_PART = 1 / 16, 1 / 4096
"""What one local truncation may take of the failure budget at first: a layer has a few, of which some turn out never to fail, so
that all of a small model's together keep it. A deep one's take less each, at last nothing: then every cut is made through an
opening."""
SAFETY = 0.8
"""Of what the next try may take, by proportion: some cuts fail as often however little they are allowed."""
MOST_ATTEMPTS = 4
"""Lowerings, each of which may show that more values have to keep their bits, before all do. Two are enough for ViT-Lite."""


def lower(graph_module: fx.GraphModule, settings: Settings | None = None) -> Program:
    """The online program of an mpc-level graph: lowered once to learn how many bits each opening needs, then with these.

    What may be cut locally is cut so; where that is too often for the budget together, less of it, at last nothing.
    """
    verify_mpc.verify(graph_module, ranges=True)
    chosen = settings or Settings()
    tried = Tried()
    part = LOCAL_PART
    while True:
        first, whole = _first(graph_module, chosen, part, tried)
        if whole.failure_probability <= chosen.failure_budget:
            break
        part = min(part / 2, part * SAFETY * chosen.failure_budget / whole.failure_probability)
        part = part if part >= LEAST_PART else 0.0
    last = Lowering(graph_module, chosen, part, tried, widths.widths(whole.online.graph, first.openings.magnitudes))
    program = last.run()
    widths.check(program.online.graph, last.openings.made)
    if last.failed:
        raise AssertionError(f"{sorted(last.failed)} were cut though all their bits are needed")
    if chosen.answers:
        exposure = Exposure.of(program, graph_module.meta[EXAMPLES])
        scales = [scale for _, scale in program.outputs]
        sizes = [exposure.noise(chosen, scale) for scale in scales]
        program = flood(program, sizes, exposure.answers(sizes, scales, chosen.answers))
    else:
        program = replace(program, hidden=0)
    structure.verify(program)
    return program


def _first(graph_module: fx.GraphModule, settings: Settings, part: float, tried: Tried) -> tuple[Lowering, Program]:
    """With all bits of every opening, until all values that are cut for good can be: `tried` grows by those that could not."""
    for attempt in itertools.count(1):
        lowering = Lowering(graph_module, settings, part, tried)
        program = lowering.run()
        if not lowering.failed:
            return lowering, program
        tried.learn(lowering.failed)
        if attempt == MOST_ATTEMPTS:
            tried.kept |= {node.name for node in lowering.narrow}
    raise AssertionError
