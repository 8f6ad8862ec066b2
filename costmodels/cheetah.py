"""Prices of SPU's Cheetah: two parties, no dealer; homomorphic encryption for products, oblivious transfer elsewhere.

Cheetah keeps state, so the forms are what one more operation costs in a program that has had some: pools of oblivious
transfers are filled then, and triples of small products come out of batches of 4096. Large products are made directly,
in whole ciphertexts, which two workers share out: 16,640 elements take as many as 32,768. Keys are paid once. Matmuls
are bound by the processor. Whole ViT-Lite 7/4/32 (tanh GELU) measured: 4115 hops, 1783 MB, 153 s of processor time a
party.
"""

from __future__ import annotations

import sympy

from mpcc.cost import Amount, Compute, Price, Protocol, Work

from ._spu import EXECUTES, SOURCE, Spu

CIPHERTEXT = 1.144e6  # bytes there and back, of 8192 numbers
SLOTS, WORKERS = 8192, 2
BATCH = 4096  # triples from one ciphertext: two cross terms each
OPENED = 32  # bytes: both operands under their masks, both ways
CUT = 3.125  # bytes: one truncation
DIRECT = 3.576e6  # bytes of 16,384 products made without triples
KEYS = Work(bytes=5e6 + 15e6)  # set-up 5 MB, keys 10 to 20 MB


def spread(count: Amount) -> Amount:
    """Elements in units of what the workers do at once, rounded up: each worker has ciphertexts of its own."""
    unit = SLOTS * WORKERS
    return -(-count // unit) if isinstance(count, int) else sympy.ceiling(count / unit)


def either(small: Amount, large: Amount, count: Amount, limit: int) -> Amount:
    """`small` up to a limit of the count."""
    if isinstance(count, int):
        return small if count <= limit else large
    return sympy.Piecewise((small, count <= limit), (large, True))


def mul(count: Amount) -> Work:
    few = (CIPHERTEXT / BATCH + OPENED + CUT) * count
    return Work(3, either(few, DIRECT * spread(count) + CUT * count, count, SLOTS * WORKERS - 1))


def squared(count: Amount) -> Amount:
    """Bytes of a square within exp or tanh: one cross term, always made directly."""
    return CIPHERTEXT * either(1, WORKERS * spread(count), count, SLOTS) + CUT * count


def exp(count: Amount) -> Work:
    """Eight squares."""
    return Work(82, 8 * squared(count))


def products(count: Amount, times: int, rest: float, hops: float, fixed: float = 0.0) -> Work:
    """`times` products, `rest` bytes an element of oblivious transfer."""
    return Work(hops, times * mul(count).bytes + rest * count + fixed)


def reciprocal(count: Amount) -> Work:
    return products(count, 9, 300, 82, fixed=1e6)


def div(count: Amount) -> Work:
    return Work(85, reciprocal(count).bytes + mul(count).bytes)


def rsqrt(count: Amount) -> Work:
    return products(count, 7, 390, 60)


def sqrt(count: Amount) -> Work:
    return products(count, 11, 390, 72)


def absolute(count: Amount) -> Work:
    return products(count, 1, 87.3, 20.5)


def tanh(count: Amount) -> Work:
    return Work(85, 8 * mul(count).bytes + squared(count) + 204 * count)


def sigmoid(count: Amount) -> Work:
    return exp(count) + reciprocal(count)


def gelu_tanh(count: Amount) -> Work:
    """tanh, three products of secrets, three with numbers."""
    return Work(100, tanh(count).bytes + 3 * (mul(count).bytes + CUT * count))


def gelu_exact(count: Amount) -> Work:
    """abs, two reciprocals, exp, four comparisons with their selections, 23 products, five with numbers. Its hops were
    not measured: 4.02 times the tanh form's, as under SEMI2K."""
    large = absolute(count) + reciprocal(count) * 2 + exp(count)
    return Work(402, large.bytes + 23 * mul(count).bytes + (4 * 98.5 + 5 * CUT) * count)


def matmul(m: Amount, k: Amount, n: Amount, public: bool) -> Work:
    """Ciphertexts of one operand and of the product: fitted to four linear layers of a ViT block, within 0.3 %.

    Small products are dearer than this, and not smoothly so, as whole ciphertexts are cut to their sizes: 65 x 64 x 65
    takes 1.26 MB and not 0.96, 65 x 64 x 64 takes 0.89, 17 x 48 x 17 takes 1.25 and not 0.44. On the whole ViT-Lite
    that is one hundredth.
    """
    return Work(2, CUT * m * n) if public else Work(4.7, 0.375e6 + 44.5 * m * k + 94.65 * m * n)


FORMS = Spu(
    rates={
        "scale": (CUT, 2),
        "mul": mul,
        "less": (82.5, 17.5),
        "relu": (98.5, 21),
        "select": (16.5, 3.5),
        "number": (7.9, 3),
        "abs": absolute,
        "exp": exp,
        "reciprocal": reciprocal,
        "div": div,
        "rsqrt": rsqrt,
        "sqrt": sqrt,
        "tanh": tanh,
        "sigmoid": sigmoid,
        "gelu_exact": gelu_exact,
        "gelu_tanh": gelu_tanh,
    },
    matmul=matmul,
    level=(99, 20),
    level_start=2,  # 142 hops over 65 elements
    norm_hops=61,
)

CHEETAH = Protocol(
    name="cheetah",
    title="SecretFlow SPU, Cheetah",
    parties=2,
    adversary="semi-honest",
    correlations="nobody: the two parties by homomorphic encryption and oblivious transfer, counted online",
    source=SOURCE,
    executes=EXECUTES,
    overlap=4115 / 4196,  # whole ViT-Lite, measured, to the sum of its operators
    setup_link_share=0.5,
    fixed=Price(online=Work(bytes=CIPHERTEXT / 2), setup=KEYS),
    compute=Compute(
        source="ViT-Lite 7/4/32: 153 s a party on one core of the machine of the baseline measurements",
        per_byte=4.7e-9,
        per_mac=5.68e-7,
    ),
    prices=FORMS.prices(),
    circuits=True,
    collusion="there is nobody to collude with",
    engine="mpcc run BUNDLE --engine spu",
    advice="Where nobody else is trusted: no dealer, for minutes of computation.",
)
