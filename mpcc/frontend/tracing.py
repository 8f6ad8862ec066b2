"""Tracing with torch.export: no chatter, errors in our words, a second try where the first cannot work."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram

from mpcc.errors import CaptureError, MpccError

from .examples import Inputs
from .failures import capture_error


def export(module: torch.nn.Module, inputs: Inputs) -> ExportedProgram:
    """The program of `module`, which is ours to change. Raises CaptureError, ShapeError.

    The second try is for models with flex attention, which torch exports only if no parameter wants gradients, and for
    models that return objects beside tensors (caches).
    """
    with quiet(), _attention_spelt_out():
        try:
            return torch.export.export(module, inputs.positional, inputs.keyword, strict=False)
        except MpccError:
            raise
        except Exception as error:
            failure = capture_error(error, module)
            cause = error
        if not isinstance(failure, CaptureError):
            raise failure from cause
        with _without_gradients(module), _tensors_only(module):
            try:
                return torch.export.export(module, inputs.positional, inputs.keyword, strict=False)
            except Exception:
                raise failure from cause


@contextmanager
def quiet() -> Iterator[None]:
    """torch prints partial graphs and warnings when it traces; our errors say what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _attention_spelt_out() -> Iterator[None]:
    """nn.MultiheadAttention has a fused form for inference that hides its softmax: switched off while tracing."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _without_gradients(module: torch.nn.Module) -> Iterator[None]:
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def _tensors_only(module: torch.nn.Module) -> Iterator[None]:
    """The module's outputs as a flat tuple of its tensors."""
    forward = module.forward

    @functools.wraps(forward)
    def flat(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        leaves = torch.utils._pytree.tree_leaves(forward(*args, **kwargs))
        return tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))

    module.__dict__["forward"] = flat
    try:
        yield
    finally:
        del module.__dict__["forward"]
