"""Where training after the picks starts: the original model compensated for them, or what the search trained if it is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx

from mpcc.approximate.recipe import EXACT
from mpcc.calibration.ranges import stack_calls
from mpcc.compensate.inputs import FULL, parts_of
from mpcc.compensate.sweep import sweep

from .choose import load_weights
from .discretise import Picks
from .mixture import Picked, weights_of
from .setup import Setup
from .trainer import accuracy


def start_compensated(setup: Setup, student: fx.GraphModule, picks: Picks) -> bool:
    """Give the student compensated weights where it is better with them on validation images; whether it was."""
    made = compensated_weights(setup, picks)
    if not made:
        return False
    before = {name: value.detach().clone() for name, value in weights_of(student).items()}
    was = accuracy(student, setup.data.validation, setup.static)
    load_weights(student, weights_of(setup.base) | made)
    if accuracy(student, setup.data.validation, setup.static) > was:
        return True
    load_weights(student, before)
    return False


def compensated_weights(setup: Setup, picks: Picks) -> dict[str, Tensor]:
    """New weights for layers behind the picks, solved on training images without their labels; none where nothing is replaced."""
    replaced = {
        gate.site: Picked(gate, picks[gate.site], setup.known)
        for gate in setup.gates
        if any(gate.candidates[pick].name != EXACT for pick in picks[gate.site])
    }
    changed = [gate.node for gate in setup.gates if gate.site in replaced]
    images = setup.data.training.images[: FULL.calls * setup.static]
    parts = parts_of(setup.base, stack_calls(setup.base, images[: len(images) // setup.static * setup.static]), FULL)
    if not changed or parts is None:
        return {}

    def at_site(node: fx.Node, see: Callable[..., Any]) -> Callable[..., Any]:
        return _called(replaced[node.meta["site"]]) if node in changed else node.target  # type: ignore[return-value]

    return sweep(setup.base, parts.calls, changed, at_site).weights


def _called(module: Picked) -> Callable[..., Any]:
    """With the operator's own arguments, of which a replacement takes no notice of these two."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return module(*args, *_others(kwargs))

    return call


def _others(kwargs: Mapping[str, Any]) -> list[Any]:
    return [value for name, value in kwargs.items() if name not in ("approximate", "dtype")]
