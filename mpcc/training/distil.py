"""Distillation: what of the original model the tuned one is to reproduce, and how that is weighed.

    loss = hard * CE(logits, label) + logits * CE(logits, softmax(teacher's logits)) + features * MSE(tokens)
         + attention * MSE(attention maps)

Soft targets at temperature 1 and the last layer's tokens: MPCViT (arXiv 2211.13955, section 4.4). All residual streams
and attention maps first, then logits: MPCFormer (arXiv 2211.01452, section 3.2). Outputs of the norms: THE-X
(arXiv 2206.00216, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from mpcc.ir.nn import operator_of, shape_of

NORMS = ("layer_norm", "rms_norm", "group_norm")
Features = Literal["none", "last", "residual", "norms"]


@dataclass(frozen=True)
class Distillation:
    """The weights of the terms; `before`: the share of the training in which only features and attention maps count."""

    hard: float = 0.0
    logits: float = 1.0
    features: Features = "last"
    feature_weight: float = 1.0
    attention_weight: float = 0.0
    before: float = 0.0

    @property
    def teacher(self) -> bool:
        """Whether the original model is needed."""
        return self.logits > 0 or self.features != "none" or self.attention_weight > 0


NONE = Distillation(hard=1.0, logits=0.0, features="none")


@dataclass(frozen=True)
class Taps:
    """Nodes whose values are compared with the original model's."""

    features: tuple[fx.Node, ...]
    attention: tuple[fx.Node, ...]

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        return (*self.features, *self.attention)


def taps(graph_module: fx.GraphModule, how: Distillation) -> Taps:
    """The nodes that a distillation looks at. `last`: the deepest residual stream that still holds all tokens."""
    norms = [n for n in graph_module.graph.nodes if (op := operator_of(n)) is not None and op.name in NORMS]
    streams = list(dict.fromkeys(n.args[0] for n in norms if isinstance(n.args[0], fx.Node)))
    found: Sequence[fx.Node] = ()
    if how.features == "norms":
        found = norms
    elif streams and how.features == "residual":
        found = streams
    elif streams and how.features == "last":
        size = shape_of(streams[-1])[-1]
        tokens = max(shape_of(n)[1:-1] for n in streams if shape_of(n)[-1] == size)
        found = [n for n in streams if shape_of(n)[-1] == size and shape_of(n)[1:-1] == tokens][-1:]
    attention = [n for n in graph_module.graph.nodes if (op := operator_of(n)) is not None and op.name == "softmax"]
    return Taps(tuple(found), tuple(attention) if how.attention_weight else ())


def loss_of(
    how: Distillation,
    where: Taps,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    labels: Tensor,
    done: float,
    smoothing: float,
) -> Tensor:
    """The loss of a batch: outputs (logits, features, attention maps); `done` is the share of the training behind."""
    total = torch.zeros((), device=student[0].device)
    if how.hard:
        total = total + how.hard * F.cross_entropy(student[0], labels, label_smoothing=smoothing)
    if how.logits and done >= how.before:
        total = total + how.logits * F.cross_entropy(student[0], teacher[0].softmax(-1))
    pairs = list(zip(student[1:], teacher[1:], strict=True)) if how.teacher else []
    features, maps = pairs[: len(where.features)], pairs[len(where.features) :]
    for weight, chosen in ((how.feature_weight, features), (how.attention_weight, maps)):
        if weight and chosen and (done < how.before or not how.before):
            total = total + weight * torch.stack([F.mse_loss(a, b) for a, b in chosen]).mean()
    return total
