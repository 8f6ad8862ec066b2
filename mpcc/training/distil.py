"""Distillation: the training loss, and which values of the original model (the teacher) enter it.

    loss = hard * CE(logits, label) + logits * CE(logits, softmax(teacher's logits)) + feature_weight * MSE(hidden values)
         + attention_weight * MSE(attention maps)

Soft targets at temperature 1 and the last layer's tokens: MPCViT (arXiv 2211.13955, section 4.4). All residual streams
and attention maps first, then logits: MPCFormer (arXiv 2211.01452, section 3.2). Outputs of the norms: THE-X
(arXiv 2206.00216, section 3.3). The weights are a recipe's: `mpcc.approximate.recipe.Distillation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from mpcc.approximate.recipe import Distillation
from mpcc.ir.nn import operator_of, shape_of

NORMS = ("layer_norm", "rms_norm", "group_norm")


@dataclass(frozen=True)
class Taps:
    """The nodes whose values are compared with the teacher's."""

    features: tuple[fx.Node, ...]
    attention: tuple[fx.Node, ...]

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        return (*self.features, *self.attention)


def taps(graph_module: fx.GraphModule, how: Distillation) -> Taps:
    """The nodes that a distillation compares. `last`: the deepest residual stream that still holds all tokens."""
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
    progress: float,
    smoothing: float,
) -> Tensor:
    """The loss of a batch from both models' outputs (logits, features, attention maps).

    `progress` is the share of the training that is done; features and attention maps count up to `how.warm_up` only, and
    throughout where there is no warm-up.
    """
    total = torch.zeros((), device=student[0].device)
    if how.hard:
        total = total + how.hard * F.cross_entropy(student[0], labels, label_smoothing=smoothing)
    if how.logits and progress >= how.warm_up:
        total = total + how.logits * F.cross_entropy(student[0], teacher[0].softmax(-1))
    pairs = list(zip(student[1:], teacher[1:], strict=True)) if how.teacher else []
    features, maps = pairs[: len(where.features)], pairs[len(where.features) :]
    for weight, chosen in ((how.feature_weight, features), (how.attention_weight, maps)):
        if weight and chosen and (progress < how.warm_up or not how.warm_up):
            total = total + weight * torch.stack([F.mse_loss(a, b) for a, b in chosen]).mean()
    return total
