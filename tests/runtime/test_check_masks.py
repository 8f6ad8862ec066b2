"""A program in which a value would leave without a mask of its own is refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import fx

from mpcc.errors import SecurityError
from mpcc.ir import curve, dealer, mpc, online
from mpcc.ir.info import annotate, info_of
from mpcc.program.check import check_masks
from mpcc.program.program import Program
from mpcc.runtime.session.session import Session
from tests.models.programs import NAMES, PARABOLAS, build, program


def first(made: Program, target: Any, nth: int = 0) -> fx.Node:
    return [n for n in made.online.graph.nodes if n.target is target][nth]


def twice(made: Program) -> Program:
    """The second opening uses the mask of the first of its size."""
    masked = [n for n in made.online.graph.nodes if n.target is online.mask_with and info_of(n).phase != "setup"]
    pairs = [(a, b) for a in masked for b in masked if a is not b and a.args[1] is not b.args[1]]
    one, other = next(p for p in pairs if p[0].meta["val"].numel() == p[1].meta["val"].numel())
    other.update_arg(1, one.args[1])
    return made


def bare(made: Program) -> Program:
    """An opening of a share without its mask."""
    opened = first(made, online.open_, 1)
    masked = opened.args[0]
    assert isinstance(masked, fx.Node)
    opened.update_arg(0, masked.args[0])
    return made


def derived(made: Program) -> Program:
    """A value hidden by something that the dealer computed, which need not be uniform."""
    sources = {n.name: n for n in made.dealer.graph.nodes}
    masked = first(made, online.mask_with, -1)
    size = masked.meta["val"].numel()
    for share, source in made.correlations:
        if sources[source].target is dealer.high and made.nodes[share].meta["val"].numel() == size:
            masked.update_arg(1, made.nodes[share])
            return made
    raise AssertionError


def revealed(made: Program) -> Program:
    """An intermediate value that is revealed as well."""
    masked = first(made, online.mask_with, -1)
    with made.online.graph.inserting_after(masked):
        node = made.online.graph.call_function(online.reveal, (masked.args[0],))
    node.meta.update(masked.meta)
    return made


def lasting(made: Program) -> Program:
    """A mask of values that comes from the seed of the set-up: the same in every inference."""
    masked = first(made, online.mask_with, -1)
    assert isinstance(masked.args[1], fx.Node)
    annotate(masked.args[1], phase="setup")
    return made


def reopened(made: Program) -> Program:
    """A masked value that goes elsewhere too."""
    masked = first(made, online.mask_with, -1)
    with made.online.graph.inserting_after(masked):
        node = made.online.graph.call_function(online.times, (masked, 3))
    node.meta.update(masked.meta)
    return made


def forgotten(made: Program) -> Program:
    """A correlation that the dealer does not know of."""
    return replace(made, correlations=made.correlations[1:])


def unflooded(made: Program) -> Program:
    """An output that is revealed without noise."""
    shown = first(made, online.reveal)
    flooded = shown.args[0]
    assert isinstance(flooded, fx.Node)
    shown.update_arg(0, flooded.args[0])
    return made


def known(made: Program) -> Program:
    """An output whose noise is a mask, of which each party has half from its own seed."""
    noise = first(made, online.flooded).args[1]
    assert isinstance(noise, fx.Node)
    source = next(n for n in made.dealer.graph.nodes if n.name == dict(made.correlations)[noise.name])
    source.target, source.args = dealer.mask, source.args[:1]
    return made


def taken_off(made: Program) -> Program:
    """Noise that is used a second time, so that it can be taken off again."""
    flooded = first(made, online.flooded)
    opened = first(made, online.mask_with, -1)
    with made.online.graph.inserting_before(opened):
        node = made.online.graph.call_function(online.combine, ((opened.args[0], flooded.args[1]), (1, 1)))
    node.meta.update(opened.meta)
    opened.update_arg(0, node)
    return made


def of_another_opening(made: Program) -> Program:
    """A gate of one opening with the tree of another."""
    gates = [n for n in made.online.graph.nodes if n.target is curve.curve]
    gates[0].update_arg(2, gates[1].args[2])
    gates[0].update_arg(1, gates[1].args[1])
    return made


def used_twice(made: Program) -> Program:
    """A tree that two gates use: the difference of their openings is that of their values."""
    gates = [n for n in made.online.graph.nodes if n.target is curve.curve]
    with made.online.graph.inserting_after(gates[0]):
        node = made.online.graph.call_function(curve.curve, gates[0].args)
    node.meta.update(gates[0].meta)
    return made


def tree(made: Program) -> fx.Node:
    return next(n for n in made.dealer.graph.nodes if n.target is dealer.tree)


def elsewhere(made: Program) -> Program:
    """A tree whose point is that of a mask that hides another value."""
    masks = [n for n in made.dealer.graph.nodes if n.target is dealer.mask]
    point = tree(made).args[2]
    assert isinstance(point, fx.Node)
    point.update_arg(0, next(m for m in masks if m is not point.args[0] and m.meta["val"].shape == point.meta["val"].shape))
    return made


def of_other_bits(made: Program) -> Program:
    """A point of other bits of the mask."""
    point = tree(made).args[2]
    assert isinstance(point, fx.Node)
    point.update_arg(2, point.args[2] - 1)  # type: ignore[operator]
    return made


def narrow(made: Program) -> Program:
    """An opening of fewer bits than the gate looks at: a mask of the rest is not drawn."""
    c = first(made, curve.curve).args[0]
    while isinstance(c, fx.Node) and c.target is not online.open_:
        c = c.args[0]
    assert isinstance(c, fx.Node)
    c.update_arg(1, 8)
    return made


def with_keys_of_another(made: Program) -> Program:
    """Two trees under the same AES keys."""
    trees = [n for n in made.dealer.graph.nodes if n.target is dealer.tree]
    trees[0].update_arg(1, trees[1].args[1])
    return made


def two_gates(x: Any) -> Any:
    return mpc.mul(*(mpc.curve(mpc.add(x, shift), -8.0, 1.0, PARABOLAS) for shift in (0.5, -0.5)))


GATES = [of_another_opening, used_twice, elsewhere, of_other_bits, narrow, with_keys_of_another]


@pytest.mark.parametrize("damage", GATES)
def test_a_broken_gate_is_caught(damage: Callable[[Program], Program]) -> None:
    made = build(two_gates)
    check_masks(made)
    with pytest.raises(SecurityError, match="tree|opening|gate"):
        check_masks(damage(made))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_compiler_makes_passes(name: str) -> None:
    check_masks(program(name))


@pytest.mark.parametrize("damage", [twice, bare, derived, revealed, lasting, reopened, forgotten, unflooded, known, taken_off])
def test_a_broken_program_is_caught(damage: Callable[[Program], Program]) -> None:
    broken = damage(program("mixed"))
    with pytest.raises(SecurityError):
        check_masks(broken)


def test_a_session_refuses_it() -> None:
    with pytest.raises(SecurityError, match="check of the masks"):
        Session(twice(program("mixed")), "v1")
