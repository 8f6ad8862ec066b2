"""mpcc's own search: at every operator its function or any structural approximation that is installed, under a budget.

THE-X's two are left out, as in the comparison that docs/mpcvit.md shows: behind its cubed ramp values outgrew the ring
there, and every further alternative makes each step of the search slower.
"""

from mpcc.approximate.recipe import Distillation, EveryStructural, Recipe

MPCC = Recipe(
    name="mpcc",
    summary="every structural approximation, chosen by training under a budget",
    source="this project",
    operators=EveryStructural(without=("gelu_relu", "softmax_the_x")),
    choice="budget",
    granularity={"softmax": "layer", "gelu": "layer"},
    distillation=Distillation(hard=0.5, logits=1.0),
)
