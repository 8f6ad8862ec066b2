""".pt2 files in: `capture_pt2` reads what torch.export.save writes, without torch's reader, and gives the nn-level graph.

torch.export.load unpickles the sample inputs and whatever else asks for it, evaluates expressions, and loads compiled
libraries: each of these runs code of the file. Here only JSON and raw tensors are read (`archive`), and only the
operators of a closed table become nodes (`graph`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import fx

from mpcc.errors import MpccError, ShapeError

from ..canonical import canonicalise
from ..canonical.mutation import NeedsFunctional
from ..canonical.walk import ForeignOperators
from ..examples import Shapes, resolve_inputs
from ..fixed import Fixed, with_fixed
from ..limits import DEFAULT, Limits
from ..torch import NOTHING, capture_functional
from .archive import Archive
from .graph import read_graph

__all__ = ["capture_pt2"]


def capture_pt2(
    path: Path, example_inputs: Any = None, input_shapes: Shapes | None = None, limits: Limits = DEFAULT,
    fixed: Fixed = NOTHING,
) -> fx.GraphModule:  # fmt: skip
    """The nn-level graph of the program in a .pt2 file.

    Errors: ModelFileError (absent, damaged, too large, pickled members), UnsupportedOperator (operators outside ATen and
    those without a private form), ShapeError (dynamic shapes that are not given).
    """
    try:
        return _captured(path, example_inputs, input_shapes, limits, fixed)
    except MpccError as error:
        if error.where is not None:
            raise
        raise type(error)(error.what, where=path.name, hint=error.hint) from None


def _captured(
    path: Path, example_inputs: Any, input_shapes: Shapes | None, limits: Limits, fixed: Fixed
) -> fx.GraphModule:
    with Archive(path, limits) as archive:
        program = read_graph(archive)
    if example_inputs is None and input_shapes is None:
        if not program.is_static:
            names = {name: (1, 3, 224, 224) for name in program.inputs}
            raise ShapeError(
                "it was exported with dynamic shapes",
                hint=f"Give static ones: capture(path, input_shapes={names}), with your model's sizes.",
            )
        try:
            return canonicalise(program.graph_module, limits.guard(archive.weight_bytes), fixed)
        except (NeedsFunctional, ForeignOperators):
            pass  # torch makes it functional, or decomposes what has no rule
    inputs = with_fixed(program.graph_module, resolve_inputs(program.graph_module, example_inputs, input_shapes), fixed)
    return capture_functional(program.graph_module, inputs, limits, archive.weight_bytes, fixed)
