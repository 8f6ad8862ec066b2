"""MPCViT: ReLU-softmax for a share mu of all heads of the model, scaling attention for the rest.

Scores are trained with a small penalty on their absolute values (section 4.2).
Source: Zeng et al., MPCViT, ICCV 2023, arXiv 2211.13955.
"""

from mpcc.approximate.recipe import Recipe, Use

MPCVIT = Recipe(
    name="mpcvit",
    summary="ReLU-softmax for a share of the heads (mpcvit:0.5), scaling attention for the rest",
    source="MPCViT, arXiv 2211.13955",
    operators={"softmax": (Use("softmax_relu"), Use("softmax_scaling"))},
    choice="share",
    granularity={"softmax": "head"},
    penalty=1e-5,
)
