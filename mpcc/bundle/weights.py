"""The weights of a bundle as safetensors: float32, with one metadata entry (several would have no fixed order)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mpcc.errors import BundleError
from mpcc.files import replacing

from .owner import AGAIN

METADATA = {"made_by": "mpcc: weights of program.json, float32"}


def write_weights(constants: Mapping[str, Tensor], path: Path) -> None:
    """Write the weights. The same weights give the same bytes."""
    tensors = {name: constants[name].detach().float().contiguous().clone() for name in sorted(constants)}
    with replacing(path, private=True) as part:
        save_file(tensors, part, METADATA)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name -> tensor. BundleError if the file is damaged."""
    try:
        found = dict(load_file(path))
    except (SafetensorError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        raise BundleError(f"{path.name} is damaged: {error}", where=str(path.parent), hint=AGAIN) from None
    for name, value in found.items():
        if value.dtype is not torch.float32:
            raise BundleError(f"{name!r} in {path.name} is {value.dtype}, not float32", where=str(path.parent), hint=AGAIN)
    return found
