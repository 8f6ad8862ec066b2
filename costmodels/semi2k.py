"""Prices of SPU's SEMI2K: two parties, additive shares modulo 2^64, triples from a dealer.

SPU counts 8n bytes a party for an opening. Both parties speak at once: two messages a hop. These forms hold exactly for
bytes and messages. Whole ViT-Lite 7/4/32 (tanh GELU), predicted and measured: 1781 hops, 347.6 MB.
"""

from __future__ import annotations

from mpcc.cost import Amount, Compute, Protocol, Work

from ._spu import EXECUTES, SOURCE, Spu

PARTIES = 2
EACH: dict[str, tuple[float, float]] = {
    "scale": (4, 1),
    "mul": (20, 2),
    "less": (56, 7),
    "relu": (72, 8),
    "select": (16, 1),
    "number": (1, 1),
    "exp": (100, 17),
    "abs": (73, 9),
    "reciprocal": (505, 36),
    "div": (525, 38),
    "rsqrt": (429, 26),
    "sqrt": (513, 35),
    "tanh": (324, 36),
    "sigmoid": (605, 53),
    "gelu_exact": (1951, 181),
    "gelu_tanh": (396, 45),
}
"""Bytes an element and messages that each party sends."""


def matmul(m: Amount, k: Amount, n: Amount, public: bool) -> Work:
    """Both operands opened, the product truncated; with a public operand the truncation only."""
    cut = 4 * m * n
    hops, size = (1, cut) if public else (2, 8 * (m * k + k * n) + cut)
    return Work(hops, PARTIES * size, messages=PARTIES * hops)


FORMS = Spu(
    rates={name: (PARTIES * size, hops, PARTIES * hops) for name, (size, hops) in EACH.items()},
    matmul=matmul,
    level=(PARTIES * 72, 8, PARTIES * 8),
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
