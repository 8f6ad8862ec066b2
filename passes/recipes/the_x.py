"""THE-X: a cubed ramp in place of exp and ReLU in place of GELU, everywhere.

Distilled from the outputs of the norms and the logits, beside the labels (section 3.3).
Source: Chen et al., THE-X, arXiv 2206.00216.
"""

from mpcc.approximate.recipe import Distillation, Recipe, Use

THE_X = Recipe(
    name="the-x",
    summary="a cubed ramp for exp, ReLU for GELU",
    source="THE-X, arXiv 2206.00216",
    operators={"softmax": (Use("softmax_the_x"),), "gelu": (Use("gelu_relu"),)},
    distillation=Distillation(hard=0.5, logits=0.5, features="norms"),
)
