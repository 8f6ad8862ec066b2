"""MPCFormer: 2Quad for softmax and a parabola for GELU, everywhere.

Distilled in two stages (section 3.2): first hidden states and attention maps, then logits.
Source: Li et al., MPCFormer, arXiv 2211.01452.
"""

from mpcc.approximate.recipe import Distillation, Recipe, Use

MPCFORMER = Recipe(
    name="mpcformer",
    summary="2Quad for softmax, a parabola for GELU",
    source="MPCFormer, arXiv 2211.01452",
    operators={"softmax": (Use("softmax_2quad"),), "gelu": (Use("gelu_quad"),)},
    distillation=Distillation(features="residual", attention_weight=1.0, warm_up=0.5),
)
