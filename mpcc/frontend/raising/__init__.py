"""Raising: decomposed GELU, SiLU, LayerNorm, softmax ... -> the canonical operator that a choice can be made for."""

from __future__ import annotations

import torch
from torch import fx


def raise_patterns(root: torch.nn.Module, graph: fx.Graph) -> None:
    """Replace what computes a known function by that function, in place. Dead nodes are left for the caller."""
