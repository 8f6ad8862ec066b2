"""Published replacements as plans by name: `stock`, `mpcformer`, `the-x`, `relu-softmax`, `scaling`, `mpcvit:0.5` ...

A recipe says which approximation every softmax and every GELU gets; norms and all else get the best bounded choice. The
members are fitted site by site in the order of the graph, to what each site sees under the choices before it.

`mpcvit:MU` keeps ReLU-softmax for the MU of all heads of the model with the greatest scores, scaling attention for the
rest. `mpcvit+:MU` also keeps GELU for the MU of all tokens with the greatest scores, and leaves it out for the rest.
Scores come from training (`mpcc tune`); without them a head's score is the damage to the outputs that its replacement
by scaling attention does on the calibration inputs, and a token's the mean square of gelu(x) - x. Ties: the earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Plan, SiteStatistics, Split
from mpcc.calibration.ranges import Inputs, observe, over_calls, stack_calls
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.errors import PlanError, UnsupportedOperator, UsageError
from mpcc.ir.nn import shape_of, sites

from .default_plan import preferred

Scores = Mapping[str, Sequence[float]]
"""Site -> a score for each head of a softmax or each token of a GELU; the greatest keep their non-linear operator."""
CALLS = 8
"""Calibration calls that the damage of a head is measured on."""


@dataclass(frozen=True)
class Recipe:
    """`kept` is what an operator becomes, `rest` what the heads or tokens beyond the fraction become, if there is one."""

    name: str
    source: str
    summary: str
    kept: Mapping[str, str | None]
    rest: Mapping[str, str]


MPCVIT = "MPCViT, arXiv 2211.13955"
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("stock", "the model as it is", "softmax and GELU kept, by the best bounded approximations", {}, {}),
        Recipe(
            "mpcformer",
            "MPCFormer, arXiv 2211.01452",
            "2Quad for softmax, a parabola for GELU",
            {"softmax": "softmax_2quad", "gelu": "gelu_quad"},
            {},
        ),
        Recipe(
            "the-x",
            "THE-X, arXiv 2206.00216",
            "a cubed ramp for exp, ReLU for GELU",
            {"softmax": "softmax_the_x", "gelu": "gelu_relu"},
            {},
        ),
        Recipe("relu-softmax", MPCVIT, "ReLU over its sum for softmax", {"softmax": "softmax_relu"}, {}),
        Recipe("scaling", MPCVIT, "no softmax: scaling attention", {"softmax": "softmax_scaling"}, {}),
        Recipe(
            "mpcvit",
            MPCVIT,
            "ReLU-softmax for a fraction of the heads (mpcvit:0.5), scaling attention for the rest",
            {"softmax": "softmax_relu"},
            {"softmax": "softmax_scaling"},
        ),
        Recipe(
            "mpcvit+",
            MPCVIT,
            "as mpcvit, and no GELU but for the same fraction of the tokens",
            {"softmax": "softmax_relu", "gelu": None},
            {"softmax": "softmax_scaling", "gelu": "gelu_identity"},
        ),
    )
}


KNOWN = ("stock", "mpcformer", "the-x", "relu-softmax", "scaling", "mpcvit:0.5", "mpcvit+:0.5")
"""Those that a front is held against."""


def parse(text: str) -> tuple[Recipe, float]:
    """`mpcvit:0.5` -> the recipe and its fraction (1 for those without)."""
    name, colon, given = text.partition(":")
    recipe = RECIPES.get(name)
    if recipe is None:
        raise UsageError(f"unknown recipe {name!r}", hint="One of: " + ", ".join(RECIPES))
    if not recipe.rest:
        if colon:
            raise UsageError(f"the recipe {name} takes no fraction")
        return recipe, 1.0
    try:
        fraction = float(given)
    except ValueError:
        raise UsageError(f"the recipe {name} needs a fraction, as in {name}:0.5") from None
    if not 0 <= fraction <= 1:
        raise UsageError(f"the fraction of {name} is between 0 and 1, not {given}")
    return recipe, fraction


def recipe_plan(
    text: str,
    graph_module: fx.GraphModule,
    inputs: Inputs,
    approximations: Mapping[str, Approximation],
    *,
    scores: Scores | None = None,
    synthetic: bool = False,
) -> Plan:
    """The plan of a recipe for a graph. UnsupportedOperator where an approximation of it does not apply."""
    recipe, fraction = parse(text)
    kept = _kept_parts(recipe, fraction, graph_module, inputs, scores)

    def choose(seen: SiteStatistics) -> Choice | Split:
        operator, best = seen.site.operator, preferred(seen, approximations, "bounded")
        if operator not in recipe.kept:
            if best is None:
                raise UnsupportedOperator(f"no bounded approximation applies at {seen.site.name}")
            return best
        wanted = recipe.kept[operator]
        whole = best if wanted is None else _member(wanted, seen, approximations, recipe)
        if whole is None:
            raise UnsupportedOperator(f"no bounded approximation applies at {seen.site.name}")
        if operator not in recipe.rest:
            return whole
        other = _member(recipe.rest[operator], seen, approximations, recipe)
        positions = kept[seen.site.name]
        dim, count = part_dimension(seen.site.operator, seen.site.shape)
        return Split.of(dim, [whole if place in positions else other for place in range(count)])

    plan = fit_sequentially(graph_module, inputs, choose, approximations, synthetic)
    return Plan(plan.choices, {"made_by": "recipe", "recipe": text, "calibrated": not synthetic})


def part_dimension(operator: str, shape: Sequence[int]) -> tuple[int, int]:
    """The dimension of heads (softmax) or tokens (others) in a site's input, and its size; (0, 1): one part.

    A softmax over fewer than four dimensions keeps its heads together, as does a batch of several images.
    """
    if operator == "softmax":
        return (len(shape) - 3, shape[-3]) if len(shape) >= 4 else (0, 1)
    return (len(shape) - 2, shape[-2]) if len(shape) >= 2 else (0, 1)


def _member(name: str, seen: SiteStatistics, approximations: Mapping[str, Approximation], recipe: Recipe) -> Choice:
    members = approximations[name].candidates(seen) if name in approximations else ()
    if not members:
        raise UnsupportedOperator(f"{name}, which the recipe {recipe.name} wants, does not apply", where=f"site {seen.site.name}")
    return Choice(name, dict(members[0]))


# ------------------------------------------------------------------------------------------------------------- scores


def _kept_parts(
    recipe: Recipe, fraction: float, graph_module: fx.GraphModule, inputs: Inputs, scores: Scores | None
) -> dict[str, set[int]]:
    """Site -> the positions that keep their operator: the greatest scores of the whole model, each operator for itself."""
    found: dict[str, set[int]] = {}
    for operator in recipe.rest:
        nodes = {name: node for name, node in sites(graph_module).items() if _operator(node) == operator}
        counts = {name: part_dimension(operator, shape_of(node))[1] for name, node in nodes.items()}
        own: Scores | None = _checked(scores, counts) if scores is not None else None
        if own is None and 0 < fraction < 1:
            own = (head_damage if operator == "softmax" else token_change)(graph_module, inputs, nodes)
        if own is None:  # all or nothing
            own = {name: [0.0] * count for name, count in counts.items()}
        rows = enumerate(own.items())
        ranked = sorted((-score, order, place, name) for order, (name, row) in rows for place, score in enumerate(row))
        for name in nodes:
            found[name] = set()
        for _, _, place, name in ranked[: round(fraction * len(ranked))]:
            found[name].add(place)
    return found


def _checked(scores: Scores, counts: Mapping[str, int]) -> dict[str, Sequence[float]] | None:
    """The scores of the sites, None if there are none for this operator."""
    if not any(name in scores for name in counts):
        return None
    for name, count in counts.items():
        if len(scores.get(name, ())) != count:
            raise PlanError(f"{len(scores.get(name, ()))} scores for {count} heads or tokens", where=f"site {name}")
    return {name: scores[name] for name in counts}


def head_damage(graph_module: fx.GraphModule, inputs: Inputs, nodes: Mapping[str, fx.Node]) -> dict[str, list[float]]:
    """Mean square change of the outputs when one head alone becomes scaling attention, for every head of the sites."""
    columns = tuple(column[:CALLS] for column in stack_calls(graph_module, inputs))

    def outputs(changed: fx.Node | None, head: int) -> Tensor:
        def one_call(*values: Tensor) -> Any:
            found = _OneHead(graph_module, changed, head).run(*values)
            return torch.cat([o.reshape(-1) for o in (found if isinstance(found, tuple) else (found,))])

        result: Tensor = over_calls(graph_module, one_call, columns)
        return result

    plain = outputs(None, 0)
    found: dict[str, list[float]] = {}
    for name, node in nodes.items():
        count = part_dimension("softmax", shape_of(node))[1]
        found[name] = [float((outputs(node, head) - plain).square().mean()) for head in range(count)]
    return found


class _OneHead(fx.Interpreter):
    """Runs a graph with one head of one softmax as scaling attention."""

    def __init__(self, graph_module: fx.GraphModule, changed: fx.Node | None, head: int) -> None:
        super().__init__(graph_module)
        self.changed, self.head = changed, head

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n is not self.changed:
            return value
        args, _ = self.fetch_args_kwargs_from_env(n)
        x, (dim, count) = args[0], part_dimension("softmax", shape_of(n))
        shape = [1] * x.dim()
        shape[dim] = count
        mask = (torch.arange(count) == self.head).reshape(shape) if count > 1 else torch.tensor(True)
        return torch.where(mask, x / x.shape[n.args[1]], value)


def token_change(graph_module: fx.GraphModule, inputs: Inputs, nodes: Mapping[str, fx.Node]) -> dict[str, list[float]]:
    """Mean square of gelu(x) - x for every token of the sites."""
    wanted = set(nodes.values())

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        if node not in wanted:
            return None
        dim, count = part_dimension("gelu", shape_of(node))
        change = (value - args[0]).square()
        return change.mean([d for d in range(change.dim()) if d != dim or count == 1]).reshape(count)

    seen = observe(graph_module, inputs, look)
    return {name: seen[node.name].mean(0).tolist() for name, node in nodes.items()}


def _operator(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]

