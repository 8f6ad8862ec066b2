"""Prices of SPU's Cheetah: two parties, no dealer; homomorphic encryption for products, oblivious transfer elsewhere.

Cheetah keeps state, so the forms are what one more operation costs in a session that has had some: triples of small products
come out of batches of 4096, and oblivious transfers out of pools of ten million, whose refills are shared out among those who
draw on them. Keys are paid once. What is sent follows from the protocol: ciphertexts by SPU's rule of packing
(`ciphertexts`), oblivious transfers by their widths. Only the size of a ciphertext, which is compressed, is measured.
Matmuls are bound by the processor. Whole ViT-Lite 7/4/32 (tanh GELU) measured: 4115 hops, 153 s of processor time a party.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy

from mpcc.cost import Amount, Compute, Price, Protocol, Work

from ._spu import EXECUTES, SOURCE, Spu

SLOTS = 8192
BATCH = SLOTS // 2  # triples from one cross term of 8192 products: two each
WORKERS = 2  # halves of large products; and of oblivious transfers, on two cores: more cores send the same in more messages
LEAST_WORK = 2048  # elements of each worker (SPU: mpc/cheetah/state.cc)

# Ciphertexts of products element by element: four moduli of plaintexts, each one ciphertext of its own.
PLAIN_MODULI = 4
ELEMENTS_SENT = 160_938  # bytes, measured: 8192 x 144 bits under a seed, compressed
ELEMENTS_ANSWERED = 124_995
CROSS = PLAIN_MODULI * (ELEMENTS_SENT + ELEMENTS_ANSWERED)  # bytes of 8192 products of one party's numbers by the other's
DIRECT = 2 * PLAIN_MODULI * (2 * ELEMENTS_SENT + ELEMENTS_ANSWERED)  # bytes of 16,384 products made without triples

# Ciphertexts of matrix products.
MATRIX_SENT = 185_000  # bytes, measured: 8192 x (59 + 55 + 49) bits under a seed, compressed
POLYNOMIAL = 126_915  # bytes, measured: 8192 x (59 + 55) bits; an answer has two of them
COEFFICIENT = 17  # bytes, measured: where the result is one block, all but its numbers are 0 in one of the two

# Oblivious transfers. A pool is refilled by a Ferret extension: 10,485,760 less what the next one takes (452,000 + 1280 x 13).
REFILL, REFILL_MESSAGES = 266_260, 1281  # measured, equal every time
POOL = 10_485_760 - 452_000 - 1280 * 13
OPENED = 32  # bytes: both operands under their masks, both ways
KEYS = Work(bytes=19.75e6 + 2 * 0.94e6, messages=2 * 930)  # measured: keys, and the first pools of both workers


def workers(count: Amount) -> Amount:
    """How many share the oblivious transfers of so many elements, each with messages of its own."""
    return either(1, WORKERS, count, LEAST_WORK)


def spread(count: Amount) -> Amount:
    """Elements in units of what the workers do at once, rounded up: each worker has ciphertexts of its own."""
    unit = SLOTS * WORKERS
    return -(-count // unit) if isinstance(count, int) else sympy.ceiling(count / unit)


def either(small: Amount, large: Amount, count: Amount, limit: int) -> Amount:
    """`small` up to a limit of the count."""
    if isinstance(count, int):
        return small if count <= limit else large
    return sympy.Piecewise((small, count <= limit), (large, True))


def transfers(count: Amount, bits: float, drawn: int, hops: float, messages: float) -> Work:
    """`bits` of messages and `drawn` transfers an element; each party sends `messages`, of each worker."""
    refills = drawn * count / POOL
    size = bits / 8 * count + REFILL * refills
    return Work(hops, size, messages=2 * messages * workers(count) + REFILL_MESSAGES * refills)


def cut(count: Amount) -> Work:
    """A truncation: one choice, and one answer of up to 24 bits."""
    return transfers(count, 1 + 24, 1, 2, 1)


def less(count: Amount) -> Work:
    """Sixteen digits of four bits (SPU: nonlinear/compare_prot.cc): each a choice of 4 bits among 16 answers of 2; then 11
    pairs of products of bits that share a factor and 4 single ones, opened both ways, in a tree of four levels."""
    leaves, tree = 16 * (4 + 16 * 2), 2 * (11 * 3 + 4 * 2)
    return transfers(count, leaves + tree, 16 * 4 + 2 * 15, 17.5, 18)


def select(count: Amount) -> Work:
    """Both ways: a choice and an answer of 64 bits."""
    return transfers(count, 2 * (1 + 64), 2, 3.5, 2)


def number(count: Amount) -> Work:
    """One way."""
    return transfers(count, 1 + 64, 1, 3, 1)


def relu(count: Amount) -> Work:
    return less(count) + select(count)


def mul(count: Amount) -> Work:
    """By triples, whose cross terms have four ciphertexts each way; from 16,384 elements on without."""
    triples = Work(bytes=(CROSS / BATCH + OPENED) * count, messages=2 + 2 * PLAIN_MODULI * count / BATCH)
    direct = Work(bytes=DIRECT * spread(count), messages=2 * PLAIN_MODULI * 3 * spread(count))
    limit = SLOTS * WORKERS - 1
    size = either(triples.bytes, direct.bytes, count, limit)
    rest = cut(count)
    return Work(3, size + rest.bytes, messages=either(triples.messages, direct.messages, count, limit) + rest.messages)


def squared(count: Amount) -> Work:
    """A square within exp or tanh: one cross term, always made directly."""
    crosses, rest = either(1, WORKERS * spread(count), count, SLOTS), cut(count)
    return Work(3, CROSS * crosses + rest.bytes, messages=2 * PLAIN_MODULI * crosses + rest.messages)


def exp(count: Amount) -> Work:
    """Eight squares."""
    squares = squared(count) * 8
    return Work(82, squares.bytes, messages=squares.messages + 2)


def products(count: Amount, times: int, rest: float, hops: float, messages: int, fixed: float = 0.0) -> Work:
    """`times` products, `rest` bytes an element and `messages` of each party and worker of oblivious transfer."""
    made = mul(count) * times
    return Work(hops, made.bytes + rest * count + fixed, messages=made.messages + 2 * messages * workers(count))


def reciprocal(count: Amount) -> Work:
    return products(count, 9, 300, 82, 41, fixed=1e6)


def div(count: Amount) -> Work:
    return at_hops(reciprocal(count) + mul(count), 85)


def rsqrt(count: Amount) -> Work:
    return products(count, 7, 390, 60, 25)


def sqrt(count: Amount) -> Work:
    return products(count, 11, 390, 72, 26)


def absolute(count: Amount) -> Work:
    return products(count, 1, 87.3, 20.5, 18)


def tanh(count: Amount) -> Work:
    return at_hops(products(count, 8, 204, 0, 42) + squared(count), 85)


def sigmoid(count: Amount) -> Work:
    return exp(count) + reciprocal(count)


def gelu_tanh(count: Amount) -> Work:
    """tanh, three products of secrets, three with numbers."""
    return at_hops(tanh(count) + mul(count) * 3 + cut(count) * 3, 100)


def gelu_exact(count: Amount) -> Work:
    """abs, two reciprocals, exp, four comparisons with their selections, 23 products, five with numbers. Its hops were
    not measured: 4.02 times the tanh form's, as under SEMI2K."""
    large = absolute(count) + reciprocal(count) * 2 + exp(count)
    return at_hops(large + mul(count) * 23 + relu(count) * 4 + cut(count) * 5, 402)


def at_hops(work: Work, hops: float) -> Work:
    """The work with hops that were measured of the whole."""
    return Work(hops, work.bytes, messages=work.messages)


def matmul(m: Amount, k: Amount, n: Amount, public: bool) -> Work:
    """Two cross terms, x0 y1 and x1 y0, one encrypted by each party; then a truncation."""
    rest = cut(m * n)
    if public:
        return rest
    size: Amount = MatrixBytes(m, k, n)
    messages: Amount = MatrixMessages(m, k, n)
    if all(isinstance(one, int) for one in (m, k, n)):
        size, messages = int(size), int(messages)
    return Work(4.7, size + rest.bytes, messages=messages + rest.messages)


class OfCiphertexts(sympy.Function):  # type: ignore[misc]
    """Of the ciphertexts of an m x k by k x n product, both cross terms; stays a symbol until the numbers are known."""

    @classmethod
    def eval(cls, m: Any, k: Any, n: Any) -> Any:
        if not (m.is_Integer and k.is_Integer and n.is_Integer):
            return None
        return sympy.Integer(2 * cls.of_one(ciphertexts(int(m), int(k), int(n)), int(m * n)))

    @staticmethod
    def of_one(made: Ciphertexts, results: int) -> int:
        """Of one cross term."""
        raise NotImplementedError


class MatrixBytes(OfCiphertexts):
    """Their bytes."""

    @staticmethod
    def of_one(made: Ciphertexts, results: int) -> int:
        answer = 2 * POLYNOMIAL * made.answered if made.packed else POLYNOMIAL * made.answered + COEFFICIENT * results
        return MATRIX_SENT * made.sent + answer


class MatrixMessages(OfCiphertexts):
    """Their messages: a ciphertext each."""

    @staticmethod
    def of_one(made: Ciphertexts, results: int) -> int:
        return made.sent + made.answered


# A matrix product is cut into blocks of d0 x d1, d1 x d2 and d0 x d2 with d0 d1 d2 <= 8192, the numbers of a ciphertext. The
# operand of fewer blocks is sent encrypted, and the blocks of the result come back packed, d1 of them in a ciphertext, unless
# there is one only. Sizes are those that SPU finds cheapest (secretflow/spu: src/libspu/mpc/cheetah/arith/matmat_prot.cc,
# GetSubMatShape, and cheetah_dot.cc, doDotOLE).
CIPHERTEXT_PRICE, AUTOMORPHISM_PRICE, PRODUCT_PRICE = 1000.0, 1.0, 0.1


@dataclass(frozen=True)
class Ciphertexts:
    """Of one cross term: `sent` encrypted, `answered` with the result; `packed`: whether results of several blocks share one."""

    sent: int
    answered: int
    packed: bool


@cache
def ciphertexts(m: int, k: int, n: int) -> Ciphertexts:
    """For a product of m x k and k x n."""
    blocks = _blocks(m, k, n, packed=True)
    if _up(m, blocks[0]) * _up(n, blocks[2]) <= 1:
        d0, d1, d2 = _blocks(m, k, n, packed=False)
        return Ciphertexts(_sent(m, k, n, d0, d1, d2), _up(m, d0) * _up(n, d2), packed=False)
    d0, d1, d2 = blocks
    answered = _up(_up(m, d0) * _up(n, d2), d1) if d1 < m * n else _up(m * n, SLOTS)
    return Ciphertexts(_sent(m, k, n, d0, d1, d2), answered, packed=True)


def _blocks(m: int, k: int, n: int, packed: bool) -> tuple[int, int, int]:
    """The cheapest sizes of blocks, the last of equal ones. With packing d1 is a power of two."""
    best, found = float("inf"), (1, 1, 1)
    for d0 in range(1, min(SLOTS, m) + 1):
        d1 = 1
        while d1 <= k and d0 * d1 <= SLOTS:
            d2 = min(n, SLOTS // d0 // d1)
            sent, results = _sent(m, k, n, d0, d1, d2), _up(m, d0) * _up(n, d2)
            automorphisms = _up(m * n, SLOTS) * d1 if packed else 0
            price = (sent + _up(results, d1)) * CIPHERTEXT_PRICE + automorphisms * AUTOMORPHISM_PRICE
            price += results * _up(k, d1) * PRODUCT_PRICE
            if price <= best:
                best, found = price, (d0, d1, d2)
            d1 = 2 * d1 if packed else d1 + 1
    return found


def _sent(m: int, k: int, n: int, d0: int, d1: int, d2: int) -> int:
    return min(_up(m, d0), _up(n, d2)) * _up(k, d1)


def _up(whole: int, part: int) -> int:
    return -(-whole // part)


FORMS = Spu(
    rates={
        "scale": cut,
        "mul": mul,
        "less": less,
        "relu": relu,
        "select": select,
        "number": number,
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
    level=(relu(1).bytes, 20, 2 * 20),
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
    fixed=Price(setup=KEYS),
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
