"""Whether the dealer makes what the parties compute with: tried on random masks, once, without inputs or weights.

The check of the masks says that a program hides its values. It does not say that it computes anything: a correlation of another
mask, or of another shift, gives noise for an answer, which nobody sees. Here the dealer's graph is run on random words, the mask
of every opening is followed through the online graph, and each share is compared with what its kernel takes it for:

    truncated(c, 13, rho, b, 48), c = X + r    ->    rho = high(r, 13, 48), b = top(r, 48)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.errors import InvalidGraph
from mpcc.ir import curve, dealer, mpc, online
from mpcc.ir.nn import size_of
from mpcc.ir.ring import bilinear, unpack
from mpcc.ir.verify_online import describe

from .document import AGAIN
from .program import Program

MOST_ELEMENTS = 1 << 22
"""Of all values of the dealer together: a second or so. What is larger is for `mpcc verify`, which runs it."""
Pairs = Iterator[tuple[Any, Tensor]]
"""(a share, as an argument of a kernel; what it has to be)"""


def check_correlations(program: Program) -> None:
    """InvalidGraph, naming a node whose correlated randomness is not of its own masks. Larger programs are not tried."""
    if sum(size_of(node) for node in program.dealer.graph.nodes if node.op != "output") <= MOST_ELEMENTS:
        _Trial(program).check()


class _Trial:
    """`shares`: what correlations share. `masked`: the masks of values about to be opened. `masks`: those of opened values."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.masked: dict[Any, Tensor] = {}
        self.masks: dict[Any, Tensor] = {}
        self.shares: dict[Any, Tensor] = {}
        dealt = _dealt(program.dealer.graph)
        for share, source in program.correlations:
            self.shares[program.nodes[share]] = dealt[source]

    def check(self) -> None:
        for node in self.program.online.graph.nodes:
            if node.op == "call_function":
                self._follow(node)
                for complaint in self._complaints(node):
                    raise InvalidGraph(complaint, where=describe(node), hint=AGAIN)

    def _follow(self, node: fx.Node) -> None:
        first, target = node.args[0], node.target
        if target in (online.mask_with, online.mask_bits) and node.args[1] in self.shares:
            self.masked[node] = self.shares[node.args[1]]
        elif target in (online.open_, online.open_bits, online.open_weight) and first in self.masked:
            self.masks[node] = self.masked[first]
        elif target is online.moved and first in self.masks:
            self.masks[node] = self.masks[first]
        elif target in mpc.VIEWS or target in (online.apply_mask, online.scale_rows, online.gather):
            for known in (self.masks, self.shares):
                if all(one in known for one in node.all_input_nodes):
                    known[node] = _run(node, known)

    def _complaints(self, node: fx.Node) -> Iterator[str]:
        for place in OPENED.get(node.target, ()):
            argument = node.args[place]
            for one in argument if isinstance(argument, list | tuple) else (argument,):
                if one not in self.masks:
                    yield f"{one} is not an opened value"
        for share, wanted in RULES[node.target](node.args, self.masks, self.shares) if node.target in RULES else ():
            if share is not None and (share not in self.shares or not _equal(self.shares[share], wanted)):
                yield f"{share} is not the correlation that it computes with"
        if node.target is online.weight_product and not _of_one_product(node):
            yield f"{node.args[3]} is of another product"
        if node.target is online.and_planes and not _of_one_comparison(node):
            yield f"{node.args[0]} are not the planes of {node.args[1]}"


def _dealt(graph: fx.Graph) -> Mapping[str, Tensor]:
    """Every value of a dealer graph, for random words instead of masks. They hide nothing: no value is ever put behind them."""
    generator, known = torch.Generator().manual_seed(0), dict[fx.Node, Tensor]()
    for node in graph.nodes:
        if node.op == "output":
            continue
        if node.target in dealer.RANDOM:
            low, high = (0, 2) if node.target is dealer.random_bits else (-(1 << 63), (1 << 63) - 1)
            known[node] = torch.empty(node.meta["val"].shape, dtype=torch.int64).random_(low, high, generator=generator)
        else:
            known[node] = _run(node, known)
    return {node.name: value for node, value in known.items()}


def _of_one_product(node: fx.Node) -> bool:
    """Whether both halves of a product with a weight are the same map of the same weight (where no view is in between)."""
    kind, _, weight, half, *attributes = node.args
    if isinstance(half, fx.Node) and half.target is online.public_product:
        return half.args[2] is weight and half.args[0] == kind and [*half.args[3:]] == attributes
    if not isinstance(half, fx.Node) or half.target is not online.mask_weight_product:
        return True
    opened: Any = half.args[2]
    masked = opened.args[0] if opened.target is online.open_weight else None
    same = masked is None or not isinstance(weight, fx.Node) or weight.op != "placeholder" or masked.args[0] is weight
    return same and half.args[0] == kind and [*half.args[4:]] == attributes


def _of_one_comparison(node: fx.Node) -> bool:
    """Whether the planes that were opened are those of the leaf that holds the rest of the comparison."""
    opened, leaf = node.args[:2]
    masked = opened.args[0] if isinstance(opened, fx.Node) else None
    planes = masked.args[0] if isinstance(masked, fx.Node) else None
    return isinstance(planes, fx.Node) and planes.target is online.planes and planes.args[0] is leaf


def _run(node: fx.Node, known: Mapping[fx.Node, Tensor]) -> Tensor:
    args = fx.node.map_arg(node.args, lambda one: known[one])
    target: Callable[..., Tensor] = node.target  # type: ignore[assignment]
    return target(*args)


def _equal(share: Tensor, wanted: Tensor) -> bool:
    """Equal, one of them broadcast if need be; packed and flat forms keep the order."""
    if share.numel() == wanted.numel():
        return torch.equal(share.reshape(-1), wanted.reshape(-1))
    return bool((share == wanted).all())


def _truncated(args: Any, masks: Any, shares: Any) -> Pairs:
    c, f, rho, b, ring = args
    yield rho, dealer.high(masks[c], f, ring)
    yield b, dealer.top(masks[c], ring)


def _power_sum(args: Any, masks: Any, shares: Any) -> Pairs:
    c, f, _, rho, b_rho, ring = args
    r, b = dealer.high(masks[c], f, ring), dealer.top(masks[c], ring)
    yield from ((share, _power(r, k)) for k, share in enumerate(rho))
    yield from ((share, b * _power(r, k)) for k, share in enumerate(b_rho))


def _power(r: Tensor, k: int) -> Tensor:
    return prod([r] * k, start=torch.ones_like(r))


def _multilinear(args: Any, masks: Any, shares: Any) -> Pairs:
    openings, shifts, terms, given, rings = args
    cuts = list(zip(openings, shifts, rings, strict=True))
    parts = [(dealer.high(masks[c], f, ring), dealer.top(masks[c], ring)) for c, f, ring in cuts]
    for term, share in zip(terms, given, strict=True):
        yield share, prod(parts[i][code - 1] for i, code in enumerate(term) if code)  # type: ignore[misc]


def _product(args: Any, masks: Any, shares: Any) -> Pairs:
    kind, cx, cy, rx, ry, rxy, *attributes = args
    yield rx, masks[cx]
    yield ry, masks[cy]
    yield rxy, bilinear(kind, masks[cx], masks[cy], *attributes)


def _mask_weight_product(args: Any, masks: Any, shares: Any) -> Pairs:
    kind, r, opened, rb, *attributes = args
    if r in shares:
        yield rb, bilinear(kind, shares[r], masks[opened], *attributes)


def _weight_product(args: Any, masks: Any, shares: Any) -> Pairs:
    _, c, _, rw, *_ = args
    if rw.target in (online.mask_weight_product, online.public_product):
        yield rw.args[1], masks[c]


def _bits(packed: Tensor, shape: Sequence[int]) -> Tensor:
    return unpack(packed, prod(shape)).reshape(tuple(shape))


def _leaves(args: Any, masks: Any, shares: Any) -> Pairs:
    c, _, low, tables, sign = args
    yield tables, dealer.tables(masks[c], low)
    yield sign, dealer.packed(dealer.sign(masks[c], low))


def _and_planes(args: Any, masks: Any, shares: Any) -> Pairs:
    e, _, a, products = args
    yield a, masks[e]
    yield products, dealer.mask_products(masks[e])


def _bit_number(args: Any, masks: Any, shares: Any) -> Pairs:
    opened, beta, shape = args
    yield beta, _bits(masks[opened], shape)


def _select(args: Any, masks: Any, shares: Any) -> Pairs:
    opened, beta, c, f, rho, b, beta_rho, beta_b, ring = args
    flag, r, t = _bits(masks[opened], masks[c].shape), dealer.high(masks[c], f, ring), dealer.top(masks[c], ring)
    yield from ((beta, flag), (rho, r), (b, t), (beta_rho, flag * r), (beta_b, flag * t))


def _curve(args: Any, masks: Any, shares: Any) -> Pairs:
    c, _, key, depth, low, fine, table, _ = args
    payload = dealer.powers(masks[c], low, len(table) - 1, fine)
    yield key, dealer.tree(None, None, dealer.point(masks[c], depth, low), payload, depth)


OPENED: Mapping[Any, tuple[int, ...]] = {
    online.truncated: (0,),
    online.power_sum: (0,),
    online.multilinear: (0,),
    online.product: (1, 2),
    online.mask_weight_product: (2,),
    online.weight_product: (1,),
    online.leaves: (0,),
    online.and_planes: (0,),
    online.bit_number: (0,),
    online.select: (0, 2),
    curve.curve: (0,),
}
"""Which arguments of a kernel both parties know."""
RULES: Mapping[Any, Callable[[Any, Any, Any], Pairs]] = {
    online.truncated: _truncated,
    online.power_sum: _power_sum,
    online.multilinear: _multilinear,
    online.product: _product,
    online.mask_weight_product: _mask_weight_product,
    online.weight_product: _weight_product,
    online.leaves: _leaves,
    online.and_planes: _and_planes,
    online.bit_number: _bit_number,
    online.select: _select,
    curve.curve: _curve,
}
"""What each kernel takes its shares for: see `mpcc.ir.online`."""
