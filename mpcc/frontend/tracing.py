"""Tracing with torch.export: no chatter, errors in our words, a second try where the first cannot work."""

from __future__ import annotations

import dataclasses
import functools
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch.export import ExportedProgram

from mpcc.errors import CaptureError, MpccError

from .conditions import answered, public_answers
from .examples import Inputs
from .failures import SecretCondition, capture_error


def export(module: torch.nn.Module, inputs: Inputs, secret: Inputs | None = None) -> ExportedProgram:
    """The program of `module`, which is ours to change. Raises CaptureError, ShapeError.

    `secret` are those of the inputs that may not decide anything: all of them, unless some are fixed.

    The second try is for models with flex attention, which torch exports only if no parameter wants gradients, for models
    that return objects beside tensors (caches), and for conditions on buffers.
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
        answers = public_answers(module, inputs, secret or inputs) if isinstance(failure, SecretCondition) else []
        if answers is None:
            raise failure from cause
        with _without_gradients(module), _tensors_only(module), answered(answers):
            try:
                return torch.export.export(module, inputs.positional, inputs.keyword, strict=False)
            except CaptureError:
                raise
            except Exception:
                raise failure from cause


def _outputs(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in what a model returns, in order; CaptureError for an object that holds tensors where nobody sees them."""
    for leaf in torch.utils._pytree.tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            yield leaf
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _outputs([getattr(leaf, field.name) for field in dataclasses.fields(leaf)])
        elif _holds_tensors(leaf):
            raise CaptureError(
                f"the model returns a {type(leaf).__name__}, which holds tensors",
                hint="Return tensors, in tuples, dictionaries or dataclasses.",
            )


def _holds_tensors(value: Any, depth: int = 4) -> bool:
    """Whether a tensor is in the attributes of an object, or in objects, lists and mappings there."""
    inside = [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in _slots(value))]
    for item in torch.utils._pytree.tree_leaves(inside):
        if isinstance(item, torch.Tensor) or depth and _holds_tensors(item, depth - 1):
            return True
    return False


def _slots(value: Any) -> list[str]:
    return [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]


@contextmanager
def quiet() -> Iterator[None]:
    """torch prints partial graphs and warnings when it traces; our errors say what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
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
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad and parameter.is_leaf]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def _tensors_only(module: torch.nn.Module) -> Iterator[None]:
    """The module's outputs as a flat tuple of its tensors, those of dataclasses among them."""
    forward = module.forward

    @functools.wraps(forward)
    def flat(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        return tuple(_outputs(forward(*args, **kwargs)))

    module.__dict__["forward"] = flat
    try:
        yield
    finally:
        del module.__dict__["forward"]
