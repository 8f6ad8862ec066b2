"""From picks to a plan: every part of every site fitted to what it sees in the trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Plan, Site, SiteStatistics, Split
from mpcc.approximate.recipe import EXACT, KEEP, Use, fitted
from mpcc.calibration.calibrate import statistics_of, subsample
from mpcc.calibration.quantities import quantities, site_of
from mpcc.calibration.ranges import observe, summary
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.errors import PlanError
from mpcc.ir import mpc
from mpcc.ir.nn import is_site, sites
from mpcc.search.default_plan import preferred

from .mixture import Candidate, Gate

PartKey = tuple[str, int]


def fitted_plan(
    base: fx.GraphModule,
    picked: fx.GraphModule,
    inputs: Tensor,
    gates: Sequence[Gate],
    picks: Mapping[str, Sequence[int]],
    approximations: Mapping[str, Approximation],
) -> Plan:
    """A choice or a split for every site of `base`, fitted to the calibration `inputs` as they run through `picked`.

    `picked` is `base` with the picks in place (see `replaced`), so that each part is fitted to the values it will see.
    """
    by_site = {gate.site: gate for gate in gates}
    parts = {site: _parts(by_site[site], picks[site]) for site in by_site}
    seen = _seen(picked, inputs, by_site, parts)
    choices: dict[str, Choice | Split] = {}
    for site, node in sites(base).items():
        if site not in by_site:
            choices[site] = _trained(site_of(node), seen[site, 0], Candidate(KEEP), approximations)
            continue
        gate = by_site[site]
        made = {
            pick: _trained(_part_site(gate, len(index)), seen[site, number], gate.candidates[pick], approximations)
            for number, (pick, index) in enumerate(parts[site].items())
        }
        choices[site] = Split.of(gate.dim or 0, [made[pick] for pick in picks[site]])
    return Plan(choices)


def _parts(gate: Gate, picks: Sequence[int]) -> dict[int, list[int]]:
    """Index of a candidate -> the positions that have it."""
    return {pick: [p for p, k in enumerate(picks) if k == pick] for pick in dict.fromkeys(picks)}


def _part_site(gate: Gate, positions: int) -> Site:
    site = site_of(gate.node)
    if gate.dim is None:
        return site
    return replace(site, shape=tuple(positions if d == gate.dim else size for d, size in enumerate(site.shape)))


def _seen(
    picked: fx.GraphModule, inputs: Tensor, gates: Mapping[str, Gate], parts: Mapping[str, Mapping[int, list[int]]]
) -> dict[PartKey, Any]:
    """(site, number of the part) -> what calibration records there."""

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        original = node.meta.get("site_node", node)
        if not is_site(original):
            return None
        gate = gates.get(original.meta["site"])
        whole = [None] if gate is None or gate.dim is None else list(parts[gate.site].values())
        found = {}
        for number, index in enumerate(whole):
            x = args[0] if index is None else mpc.gather(args[0], gate.dim, index)  # type: ignore[union-attr]
            rest = args[1:] if node.op != "call_module" else original.args[1:]
            of_part = quantities(original, (x, *rest), {} if node.op == "call_module" else kwargs)
            found[str(number)] = {name: (summary(q), subsample(q)) for name, q in of_part.items()}
        return found

    with torch.no_grad():
        seen = observe(picked, inputs, look)
    by_name = {node.name: node.meta["site"] for node in picked.graph.nodes if node.name in seen}
    return {(by_name[name], int(number)): rows for name, found in seen.items() for number, rows in found.items()}


def provisional_plan(
    graph_module: fx.GraphModule,
    inputs: Tensor,
    gates: Sequence[Gate],
    picks: Mapping[str, Sequence[int]],
    approximations: Mapping[str, Approximation],
) -> Plan:
    """A plan of picks that are to be priced before they are trained: every choice is fitted to what its site sees under the
    choices before it, trained options included, so that values do not grow out of range."""
    by_site = {gate.site: gate for gate in gates}

    def choose(seen: SiteStatistics) -> Choice | Split:
        gate = by_site.get(seen.site.name)
        if gate is None:
            return _choice(KEEP, seen, approximations)
        chosen = picks[gate.site]
        made = {pick: _choice(gate.candidates[pick].use, seen, approximations) for pick in set(chosen)}
        return Split.of(gate.dim or 0, [made[pick] for pick in chosen])

    return fit_sequentially(graph_module, inputs, choose, approximations)


def _trained(site: Site, rows: Any, candidate: Candidate, approximations: Mapping[str, Approximation]) -> Choice:
    """The candidate fitted with the trained options that it was trained with."""
    own = {} if candidate.name == EXACT else {
        name: candidate.options[name] for name in approximations[candidate.name].trained if name in candidate.options
    }  # fmt: skip
    use = Use(candidate.name, {**candidate.use.options, **own})
    return _choice(use, statistics_of(site, rows, synthetic=False), approximations)


def _choice(use: Use, statistics: SiteStatistics, approximations: Mapping[str, Approximation]) -> Choice:
    where = f"site {statistics.site.name}"
    if use.approximation == EXACT:
        choice = preferred(statistics, approximations, "bounded")
        if choice is None:
            raise PlanError("no approximation keeps the function over the values that the model computes", where=where)
        return choice
    options = fitted(use, statistics, approximations)
    if options is None:
        raise PlanError(f"{use.approximation} does not apply to the values that the model computes", where=where)
    return Choice(use.approximation, options)


def untrained(use: Use, statistics: SiteStatistics, approximations: Mapping[str, Approximation]) -> Candidate | None:
    """The candidate that training starts with: fitted to the original model, in its exact form. None if it does not apply."""
    if use.approximation == EXACT:
        return Candidate(KEEP)
    options = fitted(use, statistics, approximations)
    if options is None:
        return None
    return Candidate(use, dict(approximations[use.approximation].exact_form(options)))
