"""Inputs that the model is sure of, found by gradient from the model alone: what makes its attention sharp.

Noise never makes a softmax as sharp as a photograph does, and a range fitted to noise ends where real inputs begin. So
some inputs are moved towards a class that the model names with confidence (known as model inversion, in data-free
quantisation of ViTs: PSAQ-ViT, arXiv 2203.02250), kept smooth by their total variation and inside the range of a picture.
Where the outputs are no classes, the size of the outputs grows instead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx
from torch.nn import functional as F

RATE, SMOOTH = 0.08, 0.1
"""Adam's rate as a share of half the range, and the weight of the total variation (.05 to .5 serve alike)."""


@torch.enable_grad()  # whoever calls may have switched gradients off
def inverted(
    graph: fx.GraphModule,
    start: Tensor,
    low: float,
    high: float,
    steps: int,
    generator: torch.Generator,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """`start` [count, *static shape of the one input], moved by `steps` of Adam; the graph's weights stay as they are."""
    inputs = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([inputs], RATE * (high - low) / 2)
    with torch.no_grad():
        outputs = _outputs(graph, inputs[:1])
    wanted = _classes(outputs, len(start), generator)
    for step in range(steps):
        progress(step, steps)
        outputs = _outputs(graph, inputs)
        loss = _size_loss(outputs) if wanted is None else F.cross_entropy(outputs.flatten(0, -2), wanted)
        if not loss.requires_grad:  # places of maxima, comparisons: nothing leads anywhere
            return start
        (gradient,) = torch.autograd.grad(loss + SMOOTH * _variation(inputs), inputs)
        inputs.grad = torch.nan_to_num(gradient)
        optimiser.step()
        with torch.no_grad():
            inputs.clamp_(low, high)
    return inputs.detach()


def _outputs(graph: fx.GraphModule, inputs: Tensor) -> Tensor:
    """The first output for every call, [count, ...]."""

    def one(value: Tensor) -> Tensor:
        found = graph(value)
        first: Tensor = found[0] if isinstance(found, tuple) else found
        return first

    made: Tensor = torch.func.vmap(one, randomness="error")(inputs)
    return made.float()


def _classes(outputs: Tensor, count: int, generator: torch.Generator) -> Tensor | None:
    """A class for every row of the outputs [1, rows..., classes]; None where the outputs are no vector of classes."""
    rows = outputs[0].numel() // outputs.shape[-1] if outputs.dim() > 1 else 0
    if outputs.dim() < 2 or outputs.shape[-1] < 2 or outputs.dim() > 3 or rows != 1:
        return None
    return torch.randint(outputs.shape[-1], (count,), generator=generator)


def _size_loss(outputs: Tensor) -> Tensor:
    """Falls as the outputs spread: minus the logarithm of their variance, averaged over the calls."""
    return -outputs.flatten(1).var(1, correction=0).clamp(min=1e-12).log().mean()


def _variation(inputs: Tensor) -> Tensor:
    """Mean absolute difference of neighbours."""
    return (inputs.diff(dim=-1).abs().mean() + inputs.diff(dim=-2).abs().mean()) / 2
