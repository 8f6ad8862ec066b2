"""Masked softmaxes: which keys a row may see, as the pass `split_masks` writes it down.

    softmax(add(x, K), dim)      K a constant of 0 (seen) and MASKED (not seen) only

In plain arithmetic MASKED makes a weight exactly 0. No fixed point has room for such logits, nor needs it: the mask is
public, so the exponentials of what is not seen are dropped (`mpc.apply_mask`).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from torch import fx

from mpcc.ir.nn import attribute, shape_of
from mpcc.ir.public_mask import bits_of

from .approximation import Approximation

aten = torch.ops.aten
MASKED = -1e4
"""Low enough for float32's exp to give 0 beside any logit, high enough to leave a logit added to it three digits."""


@dataclass(frozen=True)
class Mask:
    """What is added (`add`), to which logits, and the mask (1: seen) of `shape`, broadcast to them."""

    add: fx.Node
    logits: fx.Node
    shape: tuple[int, ...]
    bits: str


def mask_at(node: fx.Node) -> Mask | None:
    """The mask of a softmax, None where it has none or `node` is not a softmax."""
    if node.target is not aten.softmax.int:
        return None
    add = node.args[0]
    if not isinstance(add, fx.Node) or add.target is not aten.add.Tensor or len(add.users) > 1:
        return None
    logits, constant = add.args[:2]
    if not isinstance(logits, fx.Node) or not isinstance(constant, fx.Node) or constant.op != "get_attr":
        return None
    graph_module = node.graph.owning_module
    assert graph_module is not None
    value = attribute(graph_module, str(constant.target)).detach()
    if not bool((value == MASKED).any()) or not bool(((value == 0) | (value == MASKED)).all()):
        return None
    shape = (1,) * (len(shape_of(add)) - value.dim()) + tuple(value.shape)
    return Mask(add, logits, shape, bits_of(value == 0))


def takes_mask(approximation: Approximation) -> bool:
    """Whether an approximation of softmax can drop keys: its function has a parameter `mask`."""
    return "mask" in inspect.signature(approximation.function).parameters
