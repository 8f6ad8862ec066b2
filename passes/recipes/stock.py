"""The model as it is: every operator keeps its function. Fine-tuned by `mpcc tune` it is the baseline for the others."""

from mpcc.approximate.recipe import Recipe

STOCK = Recipe(
    name="stock",
    summary="nothing replaced: every operator keeps its function",
    source="the model as it is",
    aliases=("softmax",),
)
