"""Recipes as plans by name: `NAME`, or `NAME:0.5` where a recipe takes a share (`mpcc recipes` lists those installed).

A recipe's alternatives are fitted site by site in the order of the graph, to what each site sees under the choices before
it; operators that it does not name get the best approximation that keeps their function. A recipe with a share (`NAME:0.5`)
keeps its first alternative at the positions (heads, tokens) with the largest scores, over the whole model and for each
operator by itself; at equal scores the earlier position comes first. Scores come from training, or else from
`mpcc.search.scores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import fx

from mpcc import registry
from mpcc.approximate import Approximation, Choice, Plan, SiteStatistics, Split
from mpcc.approximate.recipe import EXACT, KEEP, Recipe, Use, fitted, positions
from mpcc.calibration.ranges import Inputs
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.errors import PlanError, UnsupportedOperator, UsageError
from mpcc.ir.nn import shape_of, site_operator, sites

from .default_plan import preferred
from .scores import Scores, measured_scores

COMPARED_SHARE = 0.5
"""Where all recipes are compared, those that take a share take half: one line each is enough beside a front."""
Places = Mapping[str, tuple[int, int]]
"""Site -> the dimension of its positions and their number."""


def named(text: str) -> tuple[Recipe, float | None]:
    """`NAME:0.5` -> the recipe and the share behind its name, None where there is none."""
    name, colon, given = text.partition(":")
    recipe = registry.recipe(name)
    if not colon:
        return recipe, None
    if recipe.choice != "share":
        raise UsageError(f"the recipe {name} takes no share")
    try:
        return recipe, checked_share(float(given))
    except ValueError:
        raise UsageError(f"the recipe {name} needs a share, as in {name}:{COMPARED_SHARE}") from None


def parse(text: str) -> tuple[Recipe, float]:
    """The recipe and its share (1 for recipes without). UsageError where the text makes no plan by itself."""
    recipe, share = named(text)
    if recipe.choice == "budget":
        raise UsageError(
            f"the recipe {recipe.name} is chosen by training under a budget",
            hint=f"Use `mpcc tune --method {recipe.name}`; without training, `mpcc optimize --level structural --budget`.",
        )
    if recipe.choice == "share" and share is None:
        raise UsageError(f"the recipe {text} needs a share, as in {text}:{COMPARED_SHARE}")
    return recipe, 1.0 if share is None else share


def checked_share(share: float) -> float:
    """The share if it is one."""
    if not 0 <= share <= 1:
        raise UsageError(f"invalid share {share:g}: it must lie between 0 and 1")
    return share


def compared() -> tuple[str, ...]:
    """The recipes that make a plan without training, as users write them: those that a front is compared with."""
    found = [recipe for recipe in registry.recipes().values() if recipe.choice != "budget"]
    return tuple(f"{one.name}:{COMPARED_SHARE}" if one.choice == "share" else one.name for one in found)


def recipe_plan(
    text: str,
    graph_module: fx.GraphModule,
    inputs: Inputs,
    approximations: Mapping[str, Approximation],
    *,
    scores: Scores | None = None,
    synthetic: bool = False,
) -> Plan:
    """The plan of a recipe, named as users do, for a graph. UnsupportedOperator where an approximation does not apply."""
    recipe, share = parse(text)
    plan = plan_of(recipe, share, graph_module, inputs, approximations, scores=scores, synthetic=synthetic)
    return Plan(plan.choices, {"made_by": "recipe", "recipe": text, "calibrated": not synthetic})


def plan_of(
    recipe: Recipe,
    share: float,
    graph_module: fx.GraphModule,
    inputs: Inputs,
    approximations: Mapping[str, Approximation],
    *,
    scores: Scores | None = None,
    synthetic: bool = False,
) -> Plan:
    """The plan of a recipe that is not chosen under a budget, whether it is installed or not."""
    alternatives = recipe.alternatives(approximations)
    places: dict[str, Places] = {op: _places(graph_module, recipe, op) for op, uses in alternatives.items() if len(uses) == 2}
    kept: dict[str, set[int]] = {}
    for operator, where in places.items():
        own = None if scores is None else _given(scores, where)
        if own is None and 0 < share < 1:
            second = alternatives[operator][1]
            own = measured_scores(graph_module, inputs, where, recipe.granularity.get(operator, "layer"), second, approximations)
        kept |= _largest(own or {site: [0.0] * count for site, (_, count) in where.items()}, share)

    def choose(seen: SiteStatistics) -> Choice | Split:
        site, operator = seen.site.name, seen.site.operator
        uses = alternatives.get(operator, (KEEP,))
        choices = [chosen(use, seen, approximations, recipe.name) for use in uses]
        if len(choices) == 1:
            return choices[0]
        dim, count = places[operator][site]
        return Split.of(dim, [choices[0] if place in kept[site] else choices[1] for place in range(count)])

    return fit_sequentially(graph_module, inputs, choose, approximations, synthetic)


def chosen(use: Use, seen: SiteStatistics, approximations: Mapping[str, Approximation], recipe: str) -> Choice:
    """What a recipe's alternative becomes at a site."""
    where = f"site {seen.site.name}"
    if use.approximation == EXACT:
        best = preferred(seen, approximations, "bounded")
        if best is None:
            raise UnsupportedOperator("no bounded approximation applies", where=where)
        return best
    options = fitted(use, seen, approximations)
    if options is None:
        raise UnsupportedOperator(f"{use.approximation}, which the recipe {recipe} needs, does not apply", where=where)
    return Choice(use.approximation, options)


def _places(graph_module: fx.GraphModule, recipe: Recipe, operator: str) -> Places:
    granularity = recipe.granularity.get(operator, "layer")
    found = {site: node for site, node in sites(graph_module).items() if site_operator(site) == operator}
    return {site: positions(operator, granularity, shape_of(node)) for site, node in found.items()}


def _given(scores: Scores, places: Places) -> Scores | None:
    """The caller's scores of these sites, None where there are none for this operator."""
    if not any(site in scores for site in places):
        return None
    for site, (_, count) in places.items():
        if len(scores.get(site, ())) != count:
            raise PlanError(f"{len(scores.get(site, ()))} scores for {count} heads or tokens", where=f"site {site}")
    return {site: scores[site] for site in places}


def _largest(scores: Mapping[str, Sequence[float]], share: float) -> dict[str, set[int]]:
    """Site -> its positions among the share of all positions with the largest scores."""
    rows = enumerate(scores.items())
    ranked = sorted((-score, order, place, site) for order, (site, row) in rows for place, score in enumerate(row))
    found: dict[str, set[int]] = {site: set() for site in scores}
    for _, _, place, site in ranked[: round(share * len(ranked))]:
        found[site].add(place)
    return found
