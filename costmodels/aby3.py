"""Prices of SPU's ABY3: three parties of whom two are honest, replicated shares modulo 2^64, no dealer.

A product is paid by its output, whatever its inputs: 52 B an element in total. Totals over the three parties repeat
exactly; how they fall on each party does not. Whole ViT-Lite 7/4/32 (tanh GELU) measured: 438.5 MB, equal to the
prediction, and 2418 hops, 0.85 of what the operators add up to one by one.
"""

from __future__ import annotations

from mpcc.cost import Amount, Compute, Protocol, Work

from ._spu import EXECUTES, SOURCE, Spu


def matmul(m: Amount, k: Amount, n: Amount, public: bool) -> Work:
    """Re-sharing and truncation of the output; with a public operand the truncation only."""
    return Work(2, 28 * m * n, messages=5) if public else Work(3, 52 * m * n, messages=8)


FORMS = Spu(
    rates={
        "scale": (28, 2, 5),
        "mul": (52, 3, 8),
        "less": (108, 8.5, 24),
        "relu": (172, 10, 32),
        "select": (64, 2, 8),
        "number": (32, 2, 4),
        "abs": (164, 9.7, 31),
        "exp": (444, 29, 69),
        "reciprocal": (1336, 54, 152),
        "div": (1388, 56.5, 160),
        "rsqrt": (1548, 50, 142),
        "sqrt": (1784, 63, 179),
        "tanh": (868, 54, 146),
        "sigmoid": (1780, 82, 221),
        "gelu_exact": (5304, 273, 741),
        "gelu_tanh": (1108, 69, 185),
    },
    matmul=matmul,
    level=(172, 10, 32),
    level_start=3,  # 71 to 75 hops over 65 elements
    norm_hops=66,
)

ABY3 = Protocol(
    name="aby3",
    title="SecretFlow SPU, ABY3",
    parties=3,
    adversary="semi-honest, honest majority of three",
    correlations="nobody: the three parties' shared seeds",
    source=SOURCE,
    executes=EXECUTES,
    link_share=1 / 3,
    overlap=2418 / 2858,  # whole ViT-Lite, measured, to the sum of its operators
    compute=Compute(
        source="ViT-Lite 7/4/32: 3.81 s a party on one core of the machine of the baseline measurements",
        per_byte=8.7e-9,
    ),
    prices=FORMS.prices(),
    circuits=True,
    collusion="any two of the three together can read everything",
    engine="mpcc run BUNDLE --engine spu",
    advice="Where a third server that colludes with nobody can be had, and no dealer.",
)
