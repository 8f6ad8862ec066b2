"""The methods of `mpcc tune`: what may stand at a softmax and at a GELU, how it is chosen, and from what it is distilled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mpcc.errors import UsageError

from .distil import Distillation
from .mixture import EXACT, Granularity

How = Literal["programme", "ratio", "fixed"]
MPCFORMER = Distillation(features="residual", attention_weight=1.0, before=0.5)
THE_X = Distillation(hard=0.5, logits=0.5, features="norms")


@dataclass(frozen=True)
class Method:
    """`softmax` and `gelu` are candidates by name, the first is what a site starts with.

    `choose`: "fixed" (the first everywhere, no search), "ratio" (MPCViT: the share mu with the largest scores keeps the
    first candidate, over the whole model), "programme" (the integer programme under the budget, with learned scores).
    """

    name: str
    summary: str
    source: str
    softmax: tuple[str, ...] = (EXACT,)
    gelu: tuple[str, ...] = (EXACT,)
    layer_norm: tuple[str, ...] = (EXACT,)
    choose: How = "fixed"
    granularity: Mapping[str, Granularity] = field(default_factory=lambda: {"softmax": "head", "gelu": "token"})
    penalty: float = 0.0
    distillation: Distillation = Distillation()

    @property
    def candidates(self) -> Mapping[str, tuple[str, ...]]:
        """Operator -> its candidates; what is only ever exact is left out."""
        found = {"softmax": self.softmax, "gelu": self.gelu, "layer_norm": self.layer_norm}
        return {operator: names for operator, names in found.items() if names != (EXACT,)}


MPCVIT = "MPCViT, arXiv 2211.13955"
ALL = (
    Method(
        "mpcc",
        "every candidate, chosen by the integer programme under the budget",
        "this project",
        (EXACT, "softmax_2quad", "softmax_relu", "softmax_scaling"),
        (EXACT, "gelu_quad", "gelu_identity"),
        (EXACT, "layer_norm_static"),
        "programme",
        {"softmax": "layer", "gelu": "layer"},
        distillation=Distillation(hard=0.5, logits=1.0),
    ),
    Method(
        "mpcvit",
        "ReLU-softmax or scaling attention a head, the share mu by largest alpha",
        MPCVIT,
        ("softmax_relu", "softmax_scaling"),
        choose="ratio",
        penalty=1e-5,
    ),
    Method(
        "mpcvit+",
        "the same, and GELU or identity a token; W2 W1 fuse where it is identity",
        MPCVIT + ", section 4.3",
        ("softmax_relu", "softmax_scaling"),
        (EXACT, "gelu_identity"),
        choose="ratio",
        penalty=1e-5,
    ),
    Method("mpcformer", "2Quad and a parabola everywhere", "MPCFormer, arXiv 2211.01452", ("softmax_2quad",), ("gelu_quad",),
           distillation=MPCFORMER),
    Method("the-x", "THE-X's softmax and ReLU everywhere", "THE-X, arXiv 2206.00216", ("softmax_the_x",), ("gelu_relu",),
           distillation=THE_X),
    Method("softmax", "nothing replaced", "the baseline"),
    Method("relu-softmax", "ReLU-softmax everywhere", MPCVIT, ("softmax_relu",)),
    Method("scaling", "scaling attention everywhere", MPCVIT, ("softmax_scaling",)),
)  # fmt: skip
METHODS: Mapping[str, Method] = {method.name: method for method in ALL}


def method(name: str) -> Method:
    """The method of that name, or a UsageError with all names."""
    if name not in METHODS:
        raise UsageError(f"there is no method {name!r}", where="--method", hint="One of: " + ", ".join(METHODS))
    return METHODS[name]
