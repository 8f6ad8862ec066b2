"""An approximation: one text, over the mpc primitives, that replaces one operator.

Running `function` on float tensors gives the reference, tracing it gives the expansion; nothing is written twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpcc.rewrite.passes import Level

from .site import SiteStatistics

Domain = Mapping[str, tuple[float, float]]
"""Named quantities of a site (those of calibration), each with the interval in which an approximation holds."""
Options = Mapping[str, Any]
"""The options of one member of a family: JSON values only, they are written into the plan."""

JOINED = "joined"
"""An option of this name says in which order factors are multiplied: a matter of rounds and bytes, the function is the same."""


def function_key(options: Options) -> str:
    """What a member computes: equal for members that only multiply in another order."""
    return json.dumps({name: value for name, value in options.items() if name != JOINED}, sort_keys=True)


@dataclass(frozen=True)
class Approximation:
    """Replaces `operator` by `function(*tensors, **attributes, **options)` over `mpcc.ir.mpc`.

    `attributes` are the operator's own (softmax: `dim`; layer_norm: `normalized_shape`, `eps`). `candidates` gives the
    members worth considering at a site, cheapest last or in any order; an empty tuple means that it does not apply there.
    `error` is the declared bound on the absolute error over the fitted range (None for structural ones), and `domain` is
    that range: the quantities that must stay in an interval. An empty domain holds for every input.

    `trainable` names options that are part of the function a model is trained with (a floor, a factor): a later fit keeps
    them (`SiteStatistics.fixed`). `ideal` overrides options while training, so that what is only a means of computing the
    function (a polynomial for a reciprocal) does not limit what may be learned.
    """

    name: str
    operator: str
    level: Level
    source: str
    function: Callable[..., Any]
    candidates: Callable[[SiteStatistics], tuple[Options, ...]] = lambda statistics: ({},)
    error: Callable[[Options], float | None] = lambda options: None
    domain: Callable[[Options], Domain] = lambda options: {}
    summary: str = ""
    trainable: tuple[str, ...] = ()
    ideal: Options = field(default_factory=dict)
