"""A checkpoint of the user's model loads into the graph that `transform` made of it, though the graph's parameters are others.

    graph = mpcc.transform(model, (x,))
    graph.load_state_dict(checkpoint)          # qkv.weight -> qkv.part0.weight, qkv.part1.weight ...

Rewrites make new parameters: a joint projection in parts, the affine of a norm inside the product behind it. So a state dict
that names the model's own parameters is loaded into a copy of the model, which is transformed as the first time, and its
parameters are taken; of what a partial one lacks, those that the model has at that moment. A state dict of the graph itself
loads as always.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

Remake = Callable[[nn.Module], fx.GraphModule]


def accept_checkpoints(graph: fx.GraphModule, model: nn.Module, remake: Remake) -> None:
    """Let `graph`, which is `remake(model)`, load state dicts of the model. The model is kept by reference, not copied."""
    own, theirs = graph.state_dict(), model.state_dict()
    alike = own.keys() == theirs.keys()
    if alike and all(torch.equal(own[name].cpu(), theirs[name].detach().cpu().to(own[name].dtype)) for name in own):
        return  # nothing was folded: they are the same

    def hook(
        module: nn.Module, found: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str],
        unexpected: list[str], faults: list[str],
    ) -> None:  # fmt: skip
        given = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        if alike:
            what = "the model and this graph name their parameters alike, but some were folded: taken for the graph's own."
            warnings.warn(f"{what} Load a checkpoint of the model before `transform`.", stacklevel=4)
        elif not given.keys() <= own.keys() and given.keys() & theirs.keys() - own.keys():
            loaded = copy.deepcopy(model)
            result = loaded.load_state_dict(given, strict=False)
            missing += [prefix + name for name in result.missing_keys]
            unexpected += [prefix + name for name in result.unexpected_keys]
            for name in given:
                del found[prefix + name]
            found.update({prefix + name: value for name, value in remake(loaded).state_dict().items()})

    graph.register_load_state_dict_pre_hook(hook)  # type: ignore[no-untyped-call]
