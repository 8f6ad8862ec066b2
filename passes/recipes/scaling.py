"""Scaling attention for every softmax: MPCViT's cheap alternative, everywhere (arXiv 2211.13955)."""

from mpcc.approximate.recipe import Recipe, Use

SCALING = Recipe(
    name="scaling",
    summary="no softmax: scaling attention",
    source="MPCViT, arXiv 2211.13955",
    operators={"softmax": (Use("softmax_scaling"),)},
)
