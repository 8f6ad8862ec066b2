"""What is asked of a training: recipe, budget, protocol, network and what to distil from; contradictions are refused."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mpcc import registry
from mpcc.approximate.recipe import GRANULARITIES, LABELS_ONLY, Distillation, Granularity, Recipe
from mpcc.cost import Budget, Network
from mpcc.errors import UsageError
from mpcc.search.recipes import checked_share, named
from mpcc.search.target import Target


@dataclass(frozen=True)
class Request:
    """`share`: of the positions that keep the first alternative, for recipes that take one. `granularity` replaces the
    recipe's own where it has one. Without `distil` the model is trained on the labels alone."""

    recipe: Recipe
    share: float | None
    budget: Budget | None
    protocol: str
    network: Network
    granularity: Granularity | None = None
    distil: bool = True
    attention_maps: bool = False
    search_epochs: int = 5
    machine: str | None = None
    compensate: bool = True

    @staticmethod
    def of(
        method: str, *, mu: float | None = None, budget: str | Budget | None = None, protocol: str = "mpcc",
        network: str | Network = "lan", granularity: str | None = None, distil: bool = True, attention_maps: bool = False,
        search_epochs: int = 5, machine: str | None = None, compensate: bool = True,
    ) -> Request:  # fmt: skip
        """From what users write. `method` names a recipe; its share stands behind the name (`NAME:0.5`) or in `mu`."""
        recipe, share = named(method)
        grain = next((g for g in GRANULARITIES if g == granularity), None)
        if granularity is not None and grain is None:
            raise UsageError(f"unknown granularity {granularity!r}", hint="One of: " + ", ".join(GRANULARITIES))
        if mu is not None and recipe.choice != "share":
            others = ", ".join(one.name for one in registry.recipes().values() if one.choice == "share")
            raise UsageError(f"the recipe {recipe.name} takes no share", where="--mu", hint=f"Recipes that take one: {others}")
        share = share if mu is None else checked_share(mu)
        wanted = Budget.parse(budget) if isinstance(budget, str) else budget
        if recipe.choice == "share" and share is None:
            raise UsageError(f"the recipe {recipe.name} needs a share", hint="Give one between 0 and 1: --mu 0.5")
        if recipe.choice == "budget" and wanted is None:
            raise UsageError(f"the recipe {recipe.name} is chosen under a budget", hint="Give one: --budget 2s")
        Target(protocol, network, machine)
        return Request(
            recipe, share, wanted, protocol, Network.parse(network), grain, distil, attention_maps, search_epochs, machine,
            compensate,
        )

    @property
    def target(self) -> Target:
        """What the program is made for."""
        return Target(self.protocol, self.network, self.machine)

    @property
    def distillation(self) -> Distillation:
        if not self.distil:
            return LABELS_ONLY
        how = self.recipe.distillation
        return replace(how, attention_weight=1.0) if self.attention_maps else how

    @property
    def searches(self) -> bool:
        """Whether scores have to be trained before anything can be picked."""
        return self.recipe.choice != "everywhere"

    def granularity_at(self, operator: str) -> Granularity:
        """What is chosen for one by one: whole layers, unless the recipe says that an operator can be chosen for in parts."""
        own = self.recipe.granularity.get(operator, "layer")
        return own if self.granularity is None or operator not in self.recipe.granularity else self.granularity
