"""Inputs of whole numbers (bytes of an image, masks of 0 and 1) that the model itself turns into floats.

Their type says how they are stored, not what they are: from the cast on they are numbers like any other. Views may stand
before it, and so may arithmetic that is the same in floats.
"""

from __future__ import annotations

import torch
from torch import fx

from .builder import IDENTITIES, VIEWS, operator_name
from .mutation import CHECKS

CASTS = {"to", "_to_copy", "type_as"}
# Their float forms give the same number; those of small whole numbers would wrap around instead.
ARITHMETIC = {"add", "sub", "mul", "rsub", "neg", "add_", "sub_", "mul_"}
QUOTIENTS = {"div", "true_divide", "div_"}
LARGE = (torch.int32, torch.int64)
"""Types in which no model wraps around on purpose."""


def becomes_float(node: fx.Node) -> bool:
    """Whether all that is computed from the whole numbers of `node` is computed in floats, or can be."""
    return any(not operator_name(user.target).startswith(CHECKS) for user in node.users) and all(
        _user(user, node) for user in node.users
    )


def _user(user: fx.Node, node: fx.Node) -> bool:
    name = operator_name(user.target) if user.op == "call_function" else ""
    value = user.meta.get("val")
    if name.startswith(CHECKS):
        return True
    if name in CASTS or name in QUOTIENTS or name in ARITHMETIC:
        if isinstance(value, torch.Tensor) and value.dtype.is_floating_point:
            return True
        wide = isinstance(value, torch.Tensor) and value.dtype in LARGE
        return wide and (name in CASTS or name in ARITHMETIC) and becomes_float(user)
    moves = name in VIEWS or name in IDENTITIES
    return moves and user.args[0] in (node, [node]) and becomes_float(user)
