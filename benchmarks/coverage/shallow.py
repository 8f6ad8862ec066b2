"""Models cut where blocks repeat: of neighbours that are equal but for their weights one or two stay, every kind stays.

    [A, A, A, A] -> [A, A]        [A, B, A, B, A, B] -> [A, B]        [A, A, B, A] -> [A, B]
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

PLAIN = (bool, int, float, str, tuple, list, type(None))


def shallow(model: nn.Module, runs: Callable[[nn.Module], Any]) -> nn.Module:
    """A copy without its repeated blocks; the model itself where nothing repeats or the rest `runs` no more."""
    cut = copy.deepcopy(model)
    if not _cut_all(cut):
        return model
    try:
        with torch.no_grad():
            runs(cut)
    except Exception:  # blocks that are also counted or numbered elsewhere
        return model
    return cut


def _cut_all(model: nn.Module) -> bool:
    changed = False
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if type(part) in (nn.Sequential, nn.ModuleList) and len(part) > 2:
                kept = _kept([_signature(block) for block in part])
                if len(kept) < len(part):
                    setattr(parent, name, type(part)(*_given(part, kept)))
                    changed = True
    return changed


def _given(part: nn.Module, kept: list[int]) -> Iterator[Any]:
    blocks = [list(part.children())[i] for i in kept]
    return iter(blocks) if isinstance(part, nn.Sequential) else iter([blocks])


def _kept(signatures: list[str]) -> list[int]:
    """The first of every kind, and a second of the commonest where there is one kind only."""
    first = {signature: position for position, signature in reversed(list(enumerate(signatures)))}
    return sorted(first.values()) if len(first) > 1 else list(range(min(2, len(signatures))))


def _signature(block: nn.Module | None) -> str:
    """What makes two blocks the same: their classes, shapes and plain attributes, whatever their weights are."""
    if block is None:  # as lists of optional blocks hold them
        return ""
    lines = []
    for name, part in block.named_modules():
        shown = {key: value for key, value in vars(part).items() if isinstance(value, PLAIN) and not _counter(key)}
        lines.append(f"{name} {type(part).__qualname__} {shown}")
    lines += [f"{name} {tuple(tensor.shape)}" for name, tensor in block.state_dict().items()]
    return "\n".join(lines)


def _counter(key: str) -> bool:
    """Attributes that differ from block to block without changing what it computes when the model is evaluated."""
    return key.startswith("_") or any(word in key for word in ("layer_idx", "block_idx", "drop", "idx", "gradient", "training"))
