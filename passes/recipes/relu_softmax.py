"""ReLU over its sum for every softmax: MPCViT's accurate alternative, everywhere (arXiv 2211.13955)."""

from mpcc.approximate.recipe import Recipe, Use

RELU_SOFTMAX = Recipe(
    name="relu-softmax",
    summary="ReLU over its sum for softmax",
    source="MPCViT, arXiv 2211.13955",
    operators={"softmax": (Use("softmax_relu"),)},
)
