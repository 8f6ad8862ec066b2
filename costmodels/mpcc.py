"""Prices of mpcc's own engine on CrypTen parties: every value opened once, weights' masks opened once a model.

The exact cost of a program is read off its schedule (`mpcc.program.Program.cost`); this table prices one primitive by
itself, for searches that have no program yet. `opened=(positions of operands,)` says which operands other primitives
have opened already: they cost nothing more. Primitives whose openings are ready together share their rounds; a
softmax or a layer_norm has no price here before an approximation has been chosen for it.
"""

from __future__ import annotations

import sympy

from mpcc.cost import WEIGHTS, Amount, Call, Compute, Price, Protocol, Work

OPENED = 16  # bytes: a ring element, each way
ONE_WAY = 8
CURVE_BYTES = 5  # 17 to 22 bits each way, of which most are those of a place within a piece (mpcc.lowering.curves)
WORD_BITS = 64  # bits are opened packed
AND_PLANES = 6  # bits an element that a comparison opens in its AND round (mpcc.ir.online)


def free(call: Call) -> Price:
    return Price()


def opening(call: Call, operand: int) -> Work:
    """Open one operand, unless it is public or has been opened already."""
    if not call.secret(operand) or operand in call.attrs.get("opened", ()):
        return Work()
    return Work(1, OPENED * call.size(operand))


def weight(call: Call, operand: int) -> Work:
    """The mask of a weight, from the server to the client, once per model."""
    return Work(1, ONE_WAY * call.size(operand))


def product(call: Call) -> Price:
    """mul, matmul, linear, conv: each secret operand is opened; of a weight, its mask at set-up."""
    online, setup = Work(), Work()
    for operand in range(min(2, len(call.shapes))):
        if call.visibility[operand] == WEIGHTS:
            setup = setup.beside(weight(call, operand))
        else:
            online = online.beside(opening(call, operand))
    by_number = len(call.shapes) == 1
    return Price(online=Work() if by_number else online, setup=setup)


def unary(call: Call) -> Price:
    """square, pow, polynomial: the dealer gives the powers of the mask."""
    return Price(online=opening(call, 0))


def polynomial(call: Call) -> Price:
    return unary(call) if len(call.attrs["coefficients"]) > 2 else Price()


def curve(call: Call) -> Price:
    """Opens x once more, cut to the bits that tell its place on the grid: whatever else opens it, it sees other bits."""
    return Price(online=Work(1, CURVE_BYTES * call.size(0)) if call.secret(0) else Work())


def division(call: Call) -> Price:
    """By a number only: a change of scale. By a secret: an approximation of the reciprocal, then a product."""
    if len(call.shapes) > 1 or not isinstance(call.attrs.get("other"), int | float):
        raise MPCC.missing("div", None, "the divisor is secret")
    return Price()


def bits(count: Amount, planes: int) -> Work:
    """Open `planes` bits an element, packed into words."""
    words = -(-count // WORD_BITS) if isinstance(count, int) else sympy.ceiling(count / WORD_BITS)
    return Work(1, OPENED * planes * words)


def less(call: Call) -> Price:
    """The opened value selects from the dealer's tables; one AND round combines the 16-bit window's four chunks."""
    return Price(online=opening(call, 0) + bits(call.out, AND_PLANES))


def select(call: Call) -> Price:
    """bit * value: the bit is opened under a mask; the value's opening is older than the bit's as a rule."""
    return Price(online=opening(call, 1).beside(bits(call.size(0), 1)))


MPCC = Protocol(
    name="mpcc",
    aliases=("crypten",),
    title="mpcc's engine on CrypTen parties",
    scheduled=True,
    baseline="crypten-stock",
    parties=2,
    adversary="semi-honest, the dealer colluding with neither party",
    dealer=True,
    collusion="the dealer together with either party can read everything",
    engine="mpcc run BUNDLE",
    advice="The fastest here: take it where a dealer that colludes with nobody can be had.",
    correlations="a dealer, a process of its own, before the input arrives",
    source="the scheduled program, whose openings are the messages on the wire; measured equal",
    concurrent=True,
    executes="all openings of one depth in one message (docs/architecture.md)",
    opens=frozenset({"mul", "matmul", "linear", "conv", "convolution", "square", "pow", "polynomial", "less", "select"}),
    rtt_per_round=0.5,  # receives are posted beforehand: 10.5 ms on a link of 20 ms round trip
    compute=Compute(
        source="two shared cores, x86-64, torch 2.13: `mpcc benchmark` measures your machine",
        per_round=8.0e-5,
        per_byte=5.1e-10,
        per_kernel=1.1e-5,
        per_call=2.4e-6,
        per_element=9.5e-10,
        per_mac=2.0e-10,
        per_leaf=2.0e-9,
    ),
    prices={
        **dict.fromkeys(("add", "sub", "neg", "scale", "sum", "mean", "avg_pool2d"), free),
        **dict.fromkeys(("mul", "matmul", "linear", "conv", "convolution"), product),
        **dict.fromkeys(("square", "pow"), unary),
        "div": division,
        "polynomial": polynomial,
        "curve": curve,
        "less": less,
        "select": select,
    },
)
