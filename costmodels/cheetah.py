"""Prices of SPU's Cheetah: two parties, no dealer; homomorphic encryption for products, oblivious transfer elsewhere.

Cheetah keeps state, so the forms are amortised over a program (measured within 0.2 % over a block): triples come in
batches of 4096 (1.15 MB), of which half a batch is left over on average; keys are paid once. Its matmuls are bound by
the processor. Whole ViT-Lite 7/4/32 (tanh GELU) measured: 4115 hops, 1783 MB, 153 s of processor time a party.
"""

from __future__ import annotations

from mpcc.cost import Amount, Compute, Price, Protocol, Work

from ._spu import EXECUTES, SOURCE, Spu

BATCH, BATCH_BYTES = 4096, 1.15e6
OPENED = 320 - BATCH_BYTES / BATCH  # bytes a product takes beyond its triple: 320 in all, amortised
KEYS = Work(bytes=5e6 + 15e6)  # set-up 5 MB, keys 10 to 20 MB


def matmul(m: Amount, k: Amount, n: Amount, public: bool) -> Work:
    """Ciphertexts of one operand and of the product: fitted to four shapes of a ViT block, within 0.3 %."""
    return Work(2, 3.1 * m * n) if public else Work(4.7, 0.375e6 + 44.5 * m * k + 94.65 * m * n)


FORMS = Spu(
    rates={
        "scale": (3.1, 2),
        "mul": (BATCH_BYTES / BATCH + OPENED, 3),
        "less": (82, 17.5),
        "relu": (98.5, 21),
        "select": (16.5, 3.5),
        "exp": (1670, 82),
        "reciprocal": (3520, 82),
        "div": (4735, 85),  # by element, from ReLU-softmax less its relu
        "rsqrt": (2500, 60),
        "gelu_exact": (16900, 402),  # hops not measured: 4.02 times the tanh form's, as under SEMI2K
        "gelu_tanh": (4000, 100),
    },
    matmul=matmul,
    level=(99, 20),
    level_start=2,  # 142 hops over 65 elements
    reciprocal_fixed_bytes=1e6,
    softmax_bytes=2870,
    norm_bytes=1294,  # 21.7 MB at 65 x 256
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
    fraction_bits=18,
    overlap=4115 / 4196,  # whole ViT-Lite, measured, to the sum of its operators
    setup_link_share=0.5,
    fixed=Price(online=Work(bytes=BATCH_BYTES / 2), setup=KEYS),
    compute=Compute(
        source="ViT-Lite 7/4/32: 153 s a party on one core of the machine of the baseline measurements",
        per_byte=4.7e-9,
        per_mac=5.68e-7,
    ),
    prices=FORMS.prices(),
)
