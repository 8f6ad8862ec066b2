"""Prices of SPU's SEMI2K: two parties, additive shares modulo 2^64, triples from a dealer.

SPU counts 8n bytes a party for an opening; the table's per-party bytes are doubled here. These forms hold exactly for
bytes. Whole ViT-Lite 7/4/32 (tanh GELU), predicted and measured: 1781 hops, 347.6 MB.
"""

from __future__ import annotations

from mpcc.cost import Amount, Compute, Protocol, Work

from ._spu import EXECUTES, SOURCE, Spu


def matmul(m: Amount, k: Amount, n: Amount, public: bool) -> Work:
    """Both operands opened, the product truncated; with a public operand the truncation only."""
    return Work(1, 2 * 4 * m * n) if public else Work(2, 2 * (8 * (m * k + k * n) + 4 * m * n))


FORMS = Spu(
    rates={
        "scale": (2 * 4, 1),
        "mul": (2 * 20, 2),
        "less": (2 * 56, 7),
        "relu": (2 * 72, 8),
        "select": (2 * 16, 1),
        "number": (2 * 1, 1),
        "exp": (2 * 100, 17),
        "abs": (2 * 73, 9),
        "reciprocal": (2 * 505, 36),
        "div": (2 * 525, 38),
        "rsqrt": (2 * 429, 26),
        "sqrt": (2 * 513, 35),
        "tanh": (2 * 324, 36),
        "sigmoid": (2 * 605, 53),
        "gelu_exact": (2 * 1951, 181),
        "gelu_tanh": (2 * 396, 45),
    },
    matmul=matmul,
    level=(2 * 72, 8),
)

SEMI2K = Protocol(
    name="semi2k",
    title="SecretFlow SPU, SEMI2K",
    parties=2,
    adversary="semi-honest",
    correlations="a dealer; by default party 0, for tests only. Not counted in the online bytes",
    source=SOURCE,
    executes=EXECUTES,
    compute=Compute(
        source="ViT-Lite 7/4/32: 5.09 s a party on one core of the machine of the baseline measurements",
        per_byte=1.46e-8,
    ),
    prices=FORMS.prices(),
    circuits=True,
    dealer=True,
    collusion="the dealer is the server, who can read the input: only weights are safe",
    engine="mpcc run BUNDLE --engine spu",
    advice="To compare SPU with mpcc's engine, or where the client trusts the server.",
)
