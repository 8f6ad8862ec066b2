"""Conditions on buffers and constants: `if self.observer_enabled[0] == 1` is no condition on a secret.

torch.export refuses every condition on a tensor's value. Here the model is run once, and what it asks is written down; if
nothing that it asked depends on an input, it is traced again with these answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from .examples import Inputs

# What turns a tensor into a Python value: one question each.
QUESTIONS = {
    torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__, torch.Tensor.__index__, torch.Tensor.item,
    torch.is_nonzero, torch.equal,
}  # fmt: skip


def public_answers(module: torch.nn.Module, inputs: Inputs, secret: Inputs) -> list[Any] | None:
    """What the model asks of its tensors, in order; None if it asks anything of a secret input, or cannot be run."""
    secrets = _Secrets(secret)
    questions = _Questions(secrets)
    try:
        with torch.no_grad(), secrets, questions:
            module(*inputs.positional, **inputs.keyword)
    except Exception:  # whatever the user's code raises: the first error says it
        return None
    return None if questions.of_secrets else questions.answers


@contextmanager
def answered(answers: list[Any]) -> Iterator[None]:
    """Inside, the n-th question gets the n-th answer."""
    with _Answers(answers):
        yield


class _Secrets(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Knows the memory of all that is computed from the inputs. What it knows is kept alive, so that no memory is reused."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept = [item for item in tree_iter((inputs.positional, inputs.keyword)) if isinstance(item, torch.Tensor)]
        self.places = {_place(item) for item in self.kept}

    def knows(self, value: Any) -> bool:
        return any(isinstance(item, torch.Tensor) and _place(item) in self.places for item in tree_iter(value))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        secret = self.knows((args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if secret:
            made = [item for item in tree_iter(result) if isinstance(item, torch.Tensor)]
            self.kept += made
            self.places |= {_place(item) for item in made}
        return result


def _place(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Questions(TorchFunctionMode):
    def __init__(self, secrets: _Secrets) -> None:
        super().__init__()
        self.secrets = secrets
        self.answers: list[Any] = []
        self.of_secrets = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in QUESTIONS:
            self.of_secrets = self.of_secrets or self.secrets.knows(args)
            self.answers.append(result)
        return result


class _Answers(TorchFunctionMode):
    def __init__(self, answers: list[Any]) -> None:
        super().__init__()
        self.left = iter(answers)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in QUESTIONS:
            answer = next(self.left, None)
            if answer is not None:
                return answer
        return func(*args, **(kwargs or {}))
