"""What the client computes by itself, in float and before anything is private: the part of a model with public parameters."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from mpcc.ir.nn import inputs_of, shape_of

from .inputs import check_shapes


class LocalPart:
    """Calls of the user's -> calls of the program. Without a module they are the same."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.shapes = [shape_of(node) for node in inputs_of(module)]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The inputs of the program. ShapeError for inputs that are not the model's."""
        check_shapes(inputs, self.shapes)
        with torch.no_grad():
            found = self.module(*inputs)
        return (found,) if isinstance(found, Tensor) else tuple(found)  # a file of one output gives it bare
