"""An opening: c = X + r, once per value. Everything that a product, a polynomial or a comparison needs is derived from it.

A reshaped or broadcast view of a value is not opened again: the view of its opening serves. Openings are counted in the
order in which they are made; each has a ring of its own, and bits that each party drops from its share before it is masked,
since no use has any use for them (see `widths`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from mpcc.ir import dealer, online
from mpcc.ir.nn import shape_of
from mpcc.ir.ring import RING_BITS

from .builder import Builder
from .values import LIMIT


@dataclass(frozen=True)
class View:
    """How a viewed value is made from its base: target(base, *args, **kwargs)."""

    base: fx.Node
    target: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Width:
    """What is opened of a value: `ring` bits, those from bit `cut` on."""

    ring: int = RING_BITS
    cut: int = 0


@dataclass(frozen=True)
class Opening:
    """`c` is public, `mask` is r in the dealer graph, both modulo 2^ring: c = (X >> cut) + r.

    A view of another opening says so in `view`.
    """

    c: fx.Node
    mask: fx.Node
    width: Width
    view: tuple[Opening, View] | None = None

    @property
    def ring(self) -> int:
        return self.width.ring

    def left(self, f: int) -> int:
        """What a kernel has still to drop of the opened value where f bits are to be dropped of X."""
        return max(0, f - self.width.cut)  # no use that stays drops less than the cut: see `widths.check`

    def moved(self, value: int) -> int:
        """A public number, in units of X, in units of what is opened."""
        return round(value / 2**self.width.cut) if self.width.cut else value


class Openings:
    """All openings of a program. `widths`: what is opened of each, by its number; all bits if it is not there."""

    def __init__(self, builder: Builder, widths: Mapping[int, Width] | None = None) -> None:
        self.b, self.widths = builder, widths or {}
        self.magnitudes: dict[fx.Node, float] = {}
        """log2 of the largest |X| of each opening, in the order in which they were made."""
        self.made: dict[fx.Node, Width] = {}
        self.views: dict[fx.Node, View] = {}
        self.opened: dict[fx.Node, Opening] = {}
        self.bits: dict[fx.Node, tuple[fx.Node, fx.Node]] = {}

    @property
    def opened_magnitudes(self) -> dict[fx.Node, float]:
        """log2 of the largest |X >> cut| of each opening."""
        return {c: magnitude - self.made[c].cut for c, magnitude in self.magnitudes.items()}

    def viewed(self, node: fx.Node, base: fx.Node, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Remember that `node` is a view of `base` which keeps or repeats every element."""
        self.views[node] = View(base, target, args)

    def open(self, node: fx.Node, magnitude: float = LIMIT) -> Opening:
        """The opening of the shares at `node`, of values below 2^magnitude."""
        opening = self._opened(node)
        base = opening
        while base.view is not None:
            base = base.view[0]
        self.magnitudes[base.c] = max(magnitude, self.magnitudes[base.c])
        return opening

    def _opened(self, node: fx.Node) -> Opening:
        if node in self.opened:
            return self.opened[node]
        view = self.views.get(node)
        if view is not None:
            base = self._opened(view.base)
            c = self.b.on(view.target, base.c, *view.args)
            opening = Opening(c, self.b.deal(view.target, base.mask, *view.args), base.width, (base, view))
        else:
            width = self.widths.get(len(self.magnitudes), Width())
            mask = self.b.fresh(dealer.mask, shape_of(node))
            share = self.b.on(online.truncate_locally, node, width.cut) if width.cut else node
            masked = self.b.on(online.mask_with, share, self.b.correlation(mask))
            opening = Opening(self.b.on(online.open_, masked, width.ring), mask, width)
            self.magnitudes[opening.c], self.made[opening.c] = 0.0, width
        self.opened[node] = opening
        return opening

    def mask_share(self, opening: Opening) -> fx.Node:
        return self._derived(opening, lambda mask: mask)

    def high(self, opening: Opening, f: int) -> fx.Node:
        """The share of rho, where f bits are dropped of X."""
        return self._derived(opening, lambda mask: self._rho(mask, opening.left(f), opening.ring))

    def top(self, opening: Opening) -> fx.Node:
        """The share of b."""
        return self._derived(opening, lambda mask: self.b.deal(dealer.top, mask, opening.ring))

    def power(self, opening: Opening, f: int, exponent: int, with_top: bool) -> fx.Node:
        """The share of rho^exponent, or of b rho^exponent."""

        def value(mask: fx.Node) -> fx.Node:
            rho = self._rho(mask, opening.left(f), opening.ring)
            result = self.b.deal(dealer.top, mask, opening.ring) if with_top else rho
            for _ in range(exponent if with_top else exponent - 1):
                result = self.b.deal(dealer.multiply, result, rho)
            return result

        return self._derived(opening, value)

    def rho(self, opening: Opening, f: int) -> fx.Node:
        """rho in the dealer graph."""
        return self._rho(opening.mask, opening.left(f), opening.ring)

    def bit(self, opening: Opening) -> fx.Node:
        """b in the dealer graph."""
        return self.b.deal(dealer.top, opening.mask, opening.ring)

    def _rho(self, mask: fx.Node, f: int, ring: int) -> fx.Node:
        return mask if f == 0 else self.b.deal(dealer.high, mask, f, ring)

    def _derived(self, opening: Opening, value: Callable[[fx.Node], fx.Node]) -> fx.Node:
        """The share of an element-wise function of the mask: computed on the base of a view, then viewed."""
        if opening.view is not None:
            base, view = opening.view
            return self.b.on(view.target, self._derived(base, value), *view.args)
        return self.b.correlation(value(opening.mask))

    def open_bit(self, bit: fx.Node, shape: tuple[int, ...]) -> tuple[fx.Node, fx.Node]:
        """(bit xor beta packed and public, beta in the dealer graph) of a boolean share, opened once."""
        if bit not in self.bits:
            beta = self.b.fresh(dealer.random_bits, shape)
            mask = self.b.correlation(self.b.deal(dealer.packed, beta))
            self.bits[bit] = self.b.on(online.open_bits, self.b.on(online.mask_bits, bit, mask)), beta
        return self.bits[bit]
