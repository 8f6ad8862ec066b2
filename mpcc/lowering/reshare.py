"""Outputs that stay shared: a program that gives them at a common scale instead of revealing them.

X at scale S -> round(X 2^16 / S) at scale 2^16, by the exact truncation through an opening: one more round where S is a
power of two, two where it is not (a cut to 22 bits, then times an integer of 20 bits, then the rest).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import fx

from mpcc.ir import online
from mpcc.ir.info import Origin
from mpcc.ir.nn import shape_of
from mpcc.program.program import Program

from .assemble import assemble
from .builder import Builder
from .flood import Exposure, Noise, flood
from .openings import Openings
from .scales import Ledger
from .values import Secret

FIRST_BITS = 22
FACTOR_BITS = 26
EXACT = 1e-9
"""Of a logarithm: sizes that are powers of two stay what they are."""


def narrowed(program: Program, bits: int = 16) -> Program:
    """The program with its outputs at the scale 2^bits. Owner, client and dealer must all use it."""
    b = Builder()
    copies: dict[fx.Node, fx.Node] = {}
    for node in program.dealer.graph.nodes:
        if node.op != "output":
            copies[node] = _copied(b.dealer, node, copies)
    for node in program.online.graph.nodes:
        if node.op != "output" and node.target is not online.reveal:
            copies[node] = _copied(b.online, node, copies)
    sources = {n.name: n for n in program.dealer.graph.nodes}
    for name, source in program.correlations:
        b.correlations[copies[sources[source]]] = copies[program.nodes[name]]
    b.constants = dict(program.constants)
    openings = Openings(b)
    outputs = []
    for revealed, scale in program.outputs:
        share = program.nodes[revealed].all_input_nodes[0].all_input_nodes[0]  # below its noise, which is made anew
        if share.target is online.times and not _is_power(scale):  # by what it was multiplied for the noise's sake
            share, factor = share.args  # type: ignore[assignment]
            scale /= float(factor)  # type: ignore[arg-type]
        outputs.append((revealed, Secret(_scaled(b, openings, copies[share], scale, bits), 2.0**bits, 1.0, 1.0)))
    made = assemble(b, outputs, Ledger(list(program.failures)))
    sizes = [_noise(size * 2**bits) for size in program.flood]
    return flood(made, sizes, _hidden(program, sizes, bits))


def _copied(graph: fx.Graph, node: fx.Node, copies: dict[fx.Node, fx.Node]) -> fx.Node:
    copy = graph.node_copy(node, copies.__getitem__)
    copy.meta = dict(node.meta)
    return copy


def _scaled(b: Builder, openings: Openings, share: fx.Node, scale: float, bits: int) -> fx.Node:
    """The share of the same value at the scale 2^bits."""
    power = math.log2(abs(scale))
    if _is_power(scale):
        share = share if scale > 0 else b.on(online.times, share, -1)
        drop = int(power) - bits
        return _cut(b, openings, share, drop) if drop > 0 else b.on(online.times, share, 1 << -drop)
    drop = max(0, math.floor(power) - FIRST_BITS)
    share = _cut(b, openings, share, drop)
    return _cut(b, openings, b.on(online.times, share, round(2.0 ** (bits + FACTOR_BITS + drop) / scale)), FACTOR_BITS)


def _hidden(program: Program, sizes: Sequence[Noise], bits: int) -> int | None:
    """In how many answers the noise hides the steps: those of the program as before, or those of a unit that come with the new
    scale (`mpcc.lowering.flood`)."""
    if program.hidden is None:
        return None
    return min(program.hidden, *(Exposure(2.0**-bits, 1.0, 1.0).answers([size], [2.0**bits], 0) for size in sizes))


def _noise(units: float) -> Noise:
    """Noise of a standard deviation of at least so many units."""
    return Noise(max(0, math.ceil(math.log2(units) - EXACT))) if units else Noise()


def _is_power(scale: float) -> bool:
    return math.log2(abs(scale)).is_integer()


def _cut(b: Builder, openings: Openings, share: fx.Node, drop: int) -> fx.Node:
    """share >> drop, never off by more than a unit."""
    if drop == 0:
        return share
    b.origin = Origin("output", primitive="truncate")
    opening = openings.open(share)
    rho, top = openings.high(opening, drop), openings.top(opening)
    node = b.on(online.truncated, opening.c, opening.left(drop), rho, top, opening.ring)
    assert shape_of(node) == shape_of(share)
    return node
