"""A recipe: what may stand at each operator, how one alternative is chosen for every site, and what training distils from.

    HEADS = Recipe(
        name="my-heads",
        summary="an accurate softmax for a share of the heads, a cheap one for the rest",
        source="Author et al., arXiv ...",
        operators={"softmax": (Use("my_accurate_softmax"), Use("my_cheap_softmax"))},
        choice="share",
        granularity={"softmax": "head"},
    )

One declaration serves `mpcc optimize --recipe` (no training) and `mpcc tune --method` (search with training).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mpcc.errors import UsageError

from .approximation import Approximation, Options
from .masks import takes_mask
from .site import SiteStatistics

EXACT = "exact"
DEFAULT = "mpcc"
"""The recipe that is trained when none is named: the package's own."""
Granularity = Literal["head", "token", "layer"]
GRANULARITIES: tuple[Granularity, ...] = ("head", "token", "layer")
Choosing = Literal["everywhere", "share", "budget"]
Features = Literal["none", "last", "residual", "norms"]


@dataclass(frozen=True)
class Use:
    """An approximation by name, with values that its options must have at every site."""

    approximation: str
    options: Options = field(default_factory=dict)


KEEP = Use(EXACT)
"""The operator itself: exact while training, in the plan the best approximation that keeps the function."""


@dataclass(frozen=True)
class EveryStructural:
    """At every operator: `KEEP`, and all installed structural approximations except those in `without`, by name."""

    without: tuple[str, ...] = ()

    def of(self, known: Mapping[str, Approximation]) -> dict[str, tuple[Use, ...]]:
        found: dict[str, tuple[Use, ...]] = {}
        for name, one in sorted(known.items()):
            if one.level == "structural" and name not in self.without:
                found[one.operator] = (*found.get(one.operator, (KEEP,)), Use(name))
        return found


@dataclass(frozen=True)
class Distillation:
    """The weights of the terms of the training loss (see `mpcc.training.distil`).

    `hard`: cross-entropy with the labels; `logits`: cross-entropy with the original model's probabilities; `features`:
    which of its hidden values are matched; `warm_up`: the share of training in which only features and attention maps count.
    """

    hard: float = 0.0
    logits: float = 1.0
    features: Features = "last"
    feature_weight: float = 1.0
    attention_weight: float = 0.0
    warm_up: float = 0.0

    @property
    def teacher(self) -> bool:
        """Whether the original model is needed."""
        return self.logits > 0 or self.features != "none" or self.attention_weight > 0


LABELS_ONLY = Distillation(hard=1.0, logits=0.0, features="none")


@dataclass(frozen=True)
class Recipe:
    """`operators`: operator -> its alternatives; operators that are not listed keep their function.

    `choice` says which alternative a site, head or token gets:
      "everywhere"  the only one;
      "share"       the first for a share of the positions of the whole model, those with the largest scores; the second,
                    which is not `KEEP`, for the rest. Users give the share: `--recipe NAME:0.5`, `--method NAME --mu 0.5`;
      "budget"      any of them, chosen by training under a budget (`mpcc tune` alone).
    `granularity`: operator -> what is chosen for one by one; whole layers where it says nothing. `penalty`: weight of the
    absolute scores in the loss of the search. `aliases`: other names that users may write.
    """

    name: str
    summary: str
    source: str
    operators: Mapping[str, tuple[Use, ...]] | EveryStructural = field(default_factory=dict)
    choice: Choosing = "everywhere"
    granularity: Mapping[str, Granularity] = field(default_factory=dict)
    distillation: Distillation = Distillation()
    penalty: float = 0.0
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.operators, EveryStructural):
            if self.choice != "budget":
                raise UsageError('EveryStructural needs choice="budget"', where=f"recipe {self.name}")
            return
        takes = {"everywhere": 1, "share": 2}.get(self.choice)
        for operator, uses in self.operators.items():
            if not uses or takes not in (None, len(uses)):
                wanted = takes or "at least 1"
                what = f"{operator} has {len(uses)} alternative(s), choice={self.choice!r} takes {wanted}"
                raise UsageError(what, where=f"recipe {self.name}")
            if self.choice == "share" and KEEP in uses[1:]:
                raise UsageError(f"KEEP comes first among the alternatives of {operator}", where=f"recipe {self.name}")

    def alternatives(self, known: Mapping[str, Approximation]) -> dict[str, tuple[Use, ...]]:
        """Operator -> its alternatives, without operators that are only kept. UsageError if one does not exist."""
        found = self.operators.of(known) if isinstance(self.operators, EveryStructural) else self.operators
        for operator, uses in found.items():
            for name in (use.approximation for use in uses if use != KEEP):
                if name not in known or known[name].operator != operator:
                    raise UsageError(
                        f"there is no approximation of {operator} called {name!r}", where=f"recipe {self.name}",
                        hint="Install the package that offers it; `mpcc passes` lists what is installed.",
                    )  # fmt: skip
        return {operator: uses for operator, uses in found.items() if uses != (KEEP,)}


def positions(operator: str, granularity: Granularity, shape: Sequence[int]) -> tuple[int, int]:
    """(dimension of a site's input, its size) of what is chosen for one by one; (0, 1) for the site as a whole.

    softmax [batch, heads, queries, keys]: dimension -3 for heads, -2 for tokens. Others [..., tokens, channels]: -2 for
    tokens; they have no heads. A softmax of fewer dimensions may have its heads and images merged, so it is left whole.
    """
    back, rank = {"head": (3, 4), "token": (2, 3), "layer": (0, 0)}[granularity]
    if back == 0 or len(shape) < rank or (granularity == "head" and operator != "softmax"):
        return 0, 1
    return len(shape) - back, shape[-back]


def fitted(use: Use, seen: SiteStatistics, known: Mapping[str, Approximation]) -> Options | None:
    """The options of an alternative at a site: the first candidate that has those of the recipe; None if it does not apply."""
    approximation = known[use.approximation]
    if seen.site.attributes.get("masked") and not takes_mask(approximation):
        return None
    asked = replace(seen, fixed={**seen.fixed, **use.options})
    for options in approximation.candidates(asked):
        if all(name in options and options[name] == value for name, value in use.options.items()):
            return dict(options)
    return None
