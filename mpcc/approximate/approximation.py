"""An approximation: one function over the mpc primitives that replaces one operator.

Run on float tensors, `function` is the reference; traced, it is the expansion. Nothing is written twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mpcc.rewrite.passes import Level

from .site import SiteStatistics

Domain = Mapping[str, tuple[float, float]]
"""Named quantities of a site (those of calibration), each with the interval in which an approximation holds."""
Options = Mapping[str, Any]
"""The options of one candidate: JSON values only, since they are written into the plan."""


@dataclass(frozen=True)
class Approximation:
    """Replaces `operator` by `function(*tensors, **attributes, **options)` over `mpcc.ir.mpc`.

    `attributes` are the operator's own arguments (softmax: `dim`; layer_norm: `normalized_shape`, `eps`). A function with
    a parameter `mask` can drop the masked keys of a softmax: `(shape, bits)`, see `mpcc.ir.public_mask`.

    This declaration is all that the compiler knows of it; no name of an approximation or of its options stands in `mpcc`:

    `candidates`  the options worth considering at a site, in any order; the first is the default. Empty: does not apply there.
    `error`       the bound on the absolute error on the domain for given options; None for structural ones.
    `domain`      the quantities that must stay in an interval for given options. Empty: it holds for every input.
    `quantities`  what calibration must measure at its sites beyond the operator's own quantities (those are listed in
                  `mpcc.calibration.quantities`): name -> tensor, from the first operand and the attributes. A name may
                  belong to one approximation of an operator only.
    `preference`  its place among those of its operator that a plan without a search tries, 1 first; None: it is taken only
                  where none of these is accurate enough.
    `trained`     names of options that are part of the trained function (the floor under a sum, a parabola's coefficients):
                  a model is trained with the values of the first candidate, and a later fit keeps them: they are handed to
                  `candidates` in `SiteStatistics.fixed`.
    `exact_form`  the options with which tensors compute the function without any fitted part (a division instead of a
                  polynomial for it), as while training: before there is a range to fit to. Parties cannot run it.
    `layout`      the name of its boolean option that only says in which order factors are multiplied, if it has one. True:
                  the small factors first, fewest bytes; False: one after another, a round less. The function is the same.
    `gate`        whether it is made of spline gates, which save rounds for local work: a plan without a search takes it only
                  where that is faster, or nothing else applies.
    """

    name: str
    operator: str
    level: Level
    source: str
    function: Callable[..., Any]
    candidates: Callable[[SiteStatistics], tuple[Options, ...]] = lambda statistics: ({},)
    error: Callable[[Options], float | None] = lambda options: None
    domain: Callable[[Options], Domain] = lambda options: {}
    quantities: Callable[..., Mapping[str, Tensor]] = lambda x, **attributes: {}
    preference: int | None = None
    trained: tuple[str, ...] = ()
    exact_form: Callable[[Options], Options] = lambda options: options
    layout: str = ""
    gate: bool = False
    summary: str = ""

    def function_key(self, options: Options) -> str:
        """What is computed under these options: equal for those that only multiply in another order."""
        return json.dumps({name: value for name, value in options.items() if name != self.layout}, sort_keys=True)
