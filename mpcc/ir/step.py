"""The operator `mpcc::step`: 1.0 where a value is above zero, else 0.0. At the nn level, every comparison of secret values.

    step(x)          [x >= 0]
    step(x, True)    [x > 0]

ATen's comparisons give truth values; here they are numbers like all others. The operator is a composite of ATen's, so that
exporters and autograd (to which it is constant) see through it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LIBRARY: Any = torch.library.Library("mpcc", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("step(Tensor x, bool strict=False) -> Tensor")


def _step(x: Tensor, strict: bool = False) -> Tensor:
    return (x > 0 if strict else x >= 0).to(x.dtype)


_LIBRARY.impl("step", _step, "CompositeImplicitAutograd")


def _batched(info: Any, in_dims: Any, x: Tensor, strict: bool = False) -> tuple[Tensor, int]:
    return _step(x, strict), in_dims[0]


torch.library.register_vmap("mpcc::step", _batched)

STEP = torch.ops.mpcc.step.default
