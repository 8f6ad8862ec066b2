"""Whether a captured graph lowers to the secure engine: calibrated on noise, at the level `bounded`, and emulated once."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, fx

from mpcc import pipeline
from mpcc.calibration import calibrate, synthetic_inputs
from mpcc.calibration.basis import Basis
from mpcc.errors import MpccError
from mpcc.runtime.engine.emulate import Emulator

CALIBRATION_CALLS = 2
"""The question is whether there is a program, not how far it may be trusted on other inputs: none are made from the model."""


def lowers(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> tuple[str | None, float | None]:
    """None if `graph` lowers to the secure engine, else why not; and how far its emulation is from the float model.

    The error is the largest difference of an output, relative to that output's largest value.
    """
    try:
        prepared = prepared_on(graph, inputs)
        program = pipeline.precise(prepared, "bounded", lambda plan: pipeline.schedule(prepared, plan))
        with torch.no_grad():
            expected, found = graph(*inputs), Emulator(program)(*inputs)
    except MpccError as error:
        return str(error), None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"a bug: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})", None
    wanted = expected if isinstance(expected, tuple) else (expected,)
    pairs = [(a.double(), b.double()) for a, b in zip(found, wanted, strict=True) if b.numel()]
    return None, max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)


def prepared_on(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> pipeline.Prepared:
    """The graph rewritten, and calibrated on its inputs and on noise of their shapes."""
    shapes = [tuple(node.meta["val"].shape) for node in graph.graph.nodes if node.op == "placeholder"]
    calls = [tuple(inputs), *synthetic_inputs(shapes, CALIBRATION_CALLS - 1)]
    rewritten = pipeline.transform(copy.deepcopy(graph))
    statistics = calibrate(rewritten, calls, synthetic=True)
    return pipeline.Prepared(graph, rewritten, calls, statistics, Basis(1, CALIBRATION_CALLS - 1), graph)
