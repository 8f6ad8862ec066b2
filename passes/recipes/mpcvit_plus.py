"""MPCViT+: MPCViT's heads, and GELU for the same share of all tokens; the others leave it out.

Where GELU is left out, the two linear layers around it become one (section 4.3).
Source: Zeng et al., MPCViT, ICCV 2023, arXiv 2211.13955.
"""

from mpcc.approximate.recipe import KEEP, Recipe, Use

MPCVIT_PLUS = Recipe(
    name="mpcvit+",
    summary="as mpcvit, and GELU for the same share of the tokens only",
    source="MPCViT, arXiv 2211.13955, section 4.3",
    operators={
        "softmax": (Use("softmax_relu"), Use("softmax_scaling")),
        "gelu": (KEEP, Use("gelu_identity")),
    },
    choice="share",
    granularity={"softmax": "head", "gelu": "token"},
    penalty=1e-5,
)
