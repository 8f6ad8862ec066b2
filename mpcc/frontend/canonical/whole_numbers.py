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
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge", "logical_not", "where", "masked_fill"}
"""What gives truth values of whole numbers, or takes them for such: the rules compare floats instead."""
LARGE = (torch.int32, torch.int64)
"""Types in which no model wraps around on purpose."""


def becomes_float(node: fx.Node) -> bool:
    """Whether all that is computed from the whole numbers of `node` is computed in floats, or can be."""
    waiting, reached = [node], False
    while waiting:
        current = waiting.pop()
        for user in current.users:
            allowed, goes_on = _user(user, current)
            if not allowed:
                return False
            reached = reached or not operator_name(user.target).startswith(CHECKS)
            waiting += [user] if goes_on else []
        if not current.users:
            return False  # whole numbers that the model returns
    return reached


def _user(user: fx.Node, node: fx.Node) -> tuple[bool, bool]:
    """Whether a reader may read floats instead, and whether what it gives are still whole numbers."""
    name = operator_name(user.target) if user.op == "call_function" else ""
    value = user.meta.get("val")
    if name.startswith(CHECKS):
        return True, False
    if name in COMPARISONS or (name in CASTS and isinstance(value, torch.Tensor) and value.dtype == torch.bool):
        return True, False
    if name in CASTS or name in QUOTIENTS or name in ARITHMETIC:
        if isinstance(value, torch.Tensor) and value.dtype.is_floating_point:
            return True, False
        return isinstance(value, torch.Tensor) and value.dtype in LARGE and name not in QUOTIENTS, True
    return (name in VIEWS or name in IDENTITIES) and user.args[0] in (node, [node]), True
