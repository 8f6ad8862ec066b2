"""What every recipe must keep, to be called from the tests of the package that offers it.

    from mpcc.testing.recipes import check_recipe

    def test_my_recipe():
        check_recipe(MY_RECIPE, MyModel(), (x,))        # a model with the operators that the recipe names, and an input

AssertionError names the clause that is broken; an approximation that is not installed is a UsageError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mpcc import pipeline, registry
from mpcc.approximate import LEVELS, Approximation, Plan
from mpcc.approximate.recipe import EXACT, GRANULARITIES, Recipe, Use
from mpcc.calibration.ranges import stack_calls
from mpcc.cost import Network
from mpcc.ir.nn import sites
from mpcc.search.recipes import plan_of
from mpcc.search.target import Target
from mpcc.training import Gate, Mixture, Picked, Request, replaced
from mpcc.training.setup import gates_of

LONGEST_SUMMARY = 110
"""Characters: a line of `mpcc recipes`."""
SHARES = (0.0, 0.5, 1.0)


def check_recipe(recipe: Recipe, model: Any, example_inputs: Sequence[Tensor]) -> None:
    """The whole contract: declared in full, plans that compile, mixtures that `mpcc tune` can train."""
    known = registry.approximations()
    is_declared_in_full(recipe, known)
    prepared = pipeline.prepare(model, example_inputs)
    operators = {prepared.statistics[site].site.operator for site in sites(prepared.graph)}
    absent = set(recipe.alternatives(known)) - operators
    _require(not absent or recipe.choice == "budget", f"the model has no {', '.join(sorted(absent))}", recipe)
    if recipe.choice != "budget":
        for share in SHARES if recipe.choice == "share" else SHARES[-1:]:
            makes_a_plan(recipe, share, prepared, known)
    request = Request(recipe, None, None, "mpcc", Network.parse("lan"))
    trains_as_a_mixture(recipe, gates_of(prepared, request, known), prepared, known)


def is_declared_in_full(recipe: Recipe, known: Mapping[str, Approximation]) -> None:
    """Name, source, a short summary; its approximations are installed; granularities are of operators that it names."""
    _require(bool(recipe.name) and ":" not in recipe.name, "its name is empty or has a colon (a share stands behind one)", recipe)
    _require(bool(recipe.source), "it declares no source", recipe)
    _require(0 < len(recipe.summary) < LONGEST_SUMMARY, f"its summary is empty or longer than {LONGEST_SUMMARY}", recipe)
    unused = set(recipe.granularity) - set(recipe.alternatives(known))
    _require(not unused, f"it has granularities for {', '.join(sorted(unused))}, which it does not name", recipe)
    _require(set(recipe.granularity.values()) <= set(GRANULARITIES), f"granularities are {', '.join(GRANULARITIES)}", recipe)


def makes_a_plan(recipe: Recipe, share: float, prepared: pipeline.Prepared, known: Mapping[str, Approximation]) -> None:
    """Every site has one of its alternatives, or keeps its function; the plan survives JSON and compiles."""
    plan = plan_of(recipe, share, prepared.graph, prepared.inputs, known)
    alternatives = recipe.alternatives(known)
    for site, entry in plan.choices.items():
        uses = alternatives.get(prepared.statistics[site].site.operator, (Use(EXACT),))
        for choice in entry.choices:
            named = any(use.approximation == choice.approximation for use in uses)
            exact = LEVELS.index(known[choice.approximation].level) < LEVELS.index("structural")
            kept = exact and any(use.approximation == EXACT for use in uses)
            _require(named or kept, f"{site} becomes {choice.approximation}, which it does not name", recipe)
    _require(Plan.from_json(plan.to_json()).key == plan.key, "its plan does not survive JSON", recipe)
    pipeline.schedule(prepared, plan, Target().unchecked.settings)


def trains_as_a_mixture(
    recipe: Recipe, gates: Sequence[Gate], prepared: pipeline.Prepared, known: Mapping[str, Approximation]
) -> None:
    """The mixture of all alternatives gives finite outputs and a gradient at every score; each alternative alone is finite."""
    call = tuple(column[0] for column in stack_calls(prepared.graph, prepared.inputs))
    mixtures = {gate.site: Mixture(gate, known, paired=recipe.choice == "share") for gate in gates}
    output = replaced(prepared.graph, dict(mixtures))(*call)[0]
    _require(bool(output.isfinite().all()), "its mixture gives infinite or NaN outputs", recipe)
    if recipe.choice != "everywhere" and mixtures:
        output.square().sum().backward()
    for gate in gates:
        scores = mixtures[gate.site].scores.grad
        moved = scores is not None and bool(scores.isfinite().all()) and bool(scores.any())
        _require(moved or len(gate.candidates) == 1, f"{gate.site}: the scores have no finite gradient", recipe)
        for index in range(len(gate.candidates)):
            alone = {gate.site: Picked(gate, (index,) * gate.positions, known)}
            with torch.no_grad():
                finite = bool(replaced(prepared.graph, alone)(*call)[0].isfinite().all())
            _require(finite, f"{gate.site}: {gate.candidates[index].name} gives infinite or NaN outputs", recipe)


def _require(holds: bool, complaint: str, recipe: Recipe) -> None:
    if not holds:
        raise AssertionError(f"{recipe.name}: {complaint}")
