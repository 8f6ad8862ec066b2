"""mpcc recipes: the recipes of `optimize --recipe` and `tune --method`, what each allows at which operator, its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from . import options
from .screen import console, emit

if TYPE_CHECKING:
    from mpcc.approximate.recipe import Recipe, Use

EPILOG = "Example: mpcc recipes --json"
CHOSEN = {"everywhere": "the same everywhere", "share": "a share: NAME:0.5", "budget": "training, under a budget"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("recipes", epilog=EPILOG)(recipes)


def recipes(as_json: options.AsJson = False) -> None:
    """List the recipes: what `optimize --recipe` and `tune --method` put in place of which operator."""
    from mpcc import registry

    known = registry.approximations()
    found = [(one, one.alternatives(known)) for one in registry.recipes().values()]
    if as_json:
        emit([document(one, alternatives) for one, alternatives in found])
        return
    from .tables import cards

    rows = []
    for one, alternatives in found:
        lines = [f"{operator}: {', '.join(map(_named, uses))}" for operator, uses in alternatives.items()]
        also = [f"also called {', '.join(one.aliases)}"] if one.aliases else []
        rows.append((one.name, [one.summary, *lines, f"chosen: {CHOSEN[one.choice]}", *also, f"source: {one.source}"]))
    console().print(cards("Recipes: what stands at which operator", rows), highlight=False, markup=False)


def _named(use: Use) -> str:
    options = ", ".join(f"{name}={value}" for name, value in use.options.items())
    return f"{use.approximation}({options})" if options else use.approximation


def document(recipe: Recipe, alternatives: Mapping[str, Sequence[Use]]) -> dict[str, Any]:
    """A recipe as JSON."""
    from dataclasses import asdict

    return {
        "name": recipe.name, "aliases": list(recipe.aliases), "summary": recipe.summary, "source": recipe.source,
        "choice": recipe.choice, "granularity": dict(recipe.granularity),
        "operators": {operator: [asdict(use) for use in uses] for operator, uses in alternatives.items()},
        "distillation": asdict(recipe.distillation),
    }  # fmt: skip
