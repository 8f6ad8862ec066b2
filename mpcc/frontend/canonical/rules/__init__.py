"""One rule an operator: how it is said in the canonical operators. A file a family, `RULES` its table."""

from __future__ import annotations

from ..values import Rules
from . import (
    activations,
    arithmetic,
    attention,
    comparisons,
    complexes,
    convolutions,
    creation,
    fourier,
    gathers,
    norms,
    pooling,
    products,
    recurrent,
    reductions,
    resize,
    scatters,
    views,
)

RULES: Rules = {
    **views.RULES,
    **gathers.RULES,
    **arithmetic.RULES,
    **reductions.RULES,
    **products.RULES,
    **recurrent.RULES,
    **convolutions.RULES,
    **attention.RULES,
    **activations.RULES,
    **norms.RULES,
    **pooling.RULES,
    **resize.RULES,
    **creation.RULES,
    **fourier.RULES,
    **scatters.RULES,
    **complexes.RULES,
    **comparisons.RULES,
}
