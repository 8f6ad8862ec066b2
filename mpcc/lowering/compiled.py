"""Lowering as a whole: until what was assumed about the values holds, then once more, with openings as narrow as they can be."""

from __future__ import annotations

import itertools

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

LOCAL_PARTS = (1 / 16, 1 / 128, 0.0)
"""What one local truncation may take of the failure budget, tried in turn until all of them together keep it: a layer has a
few, so that 1/16 serves small models, 1/128 deep ones; with nothing allowed, every cut goes through an opening."""


MOST_ATTEMPTS = 4
"""Lowerings, each of which may show that more values have to keep their bits, before all do. Two are enough for ViT-Lite."""


def lower(graph_module: fx.GraphModule, settings: Settings | None = None) -> Program:
    """The online program of an mpc-level graph: lowered once to learn how many bits each opening needs, then with these.

    What may be cut locally is cut so; where that is too often for the budget together, less of it, at last nothing.
    """
    verify_mpc.verify(graph_module, ranges=True)
    chosen = settings or Settings()
    tried = Tried()
    for part in LOCAL_PARTS:
        first, whole = _first(graph_module, chosen, part, tried)
        if whole.failure_probability <= chosen.failure_budget:
            break
    last = Lowering(graph_module, chosen, part, tried, widths.widths(whole.online.graph, first.openings.magnitudes))
    program = last.run()
    widths.check(program.online.graph, last.openings.made)
    if last.failed:
        raise AssertionError(f"{sorted(last.failed)} were cut though all their bits are needed")
    if chosen.answers:
        exposure = Exposure.of(program, graph_module.meta[EXAMPLES])
        flood(program, [exposure.bits(chosen, scale) for _, scale in program.outputs])
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
