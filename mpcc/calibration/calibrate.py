"""Calibration: run an nn-level graph in float over example inputs and record what each site sees.

    statistics = calibrate(graph_module, load_calibration("images.npy", shapes))
    statistics = calibrate(graph_module, synthesise(graph).calls(), synthetic=True)      and every number says so
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Site, SiteStatistics
from mpcc.approximate.logit_margin import STRETCH, SYNTHETIC_STRETCH
from mpcc.errors import RangeError
from mpcc.ir.nn import is_site, sites

from .quantities import quantities, site_of
from .ranges import Inputs, merged, observe, stack_calls, summary

SAMPLES_A_CALL, SAMPLES = 512, 16384
"""Values kept of a quantity, from each call and in all. Extremes are taken over every value."""
SEED = 0


def calibrate(
    graph_module: fx.GraphModule,
    inputs: Inputs,
    synthetic: bool = False,
    approximations: Iterable[Approximation] | None = None,
    stretch: float | None = None,
) -> dict[str, SiteStatistics]:
    """Site name -> statistics over all the inputs, in the order of the graph.

    `inputs` is a tensor [examples, ...] for a graph of one input, or an iterable of calls; a graph with a static batch
    sees whole batches. `synthetic` marks numbers that do not come from the user's data. `approximations` (default: all
    installed ones) say what is measured besides the operators' own quantities. `stretch`: the factor on logits, by default
    the one for such inputs.
    """
    factor = stretch or stretch_of(synthetic)

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        return seen_at(node, args, kwargs, factor, approximations) if is_site(node) else None

    seen = observe(graph_module, inputs, look)
    return {
        name: statistics_of(site_of(node), seen[node.name], synthetic, factor) for name, node in sites(graph_module).items()
    }


def stretch_of(synthetic: bool) -> float:
    """The factor on logits that ranges allow for: more where inputs were made from the model."""
    return SYNTHETIC_STRETCH if synthetic else STRETCH


def seen_at(
    node: fx.Node,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    stretch: float = STRETCH,
    approximations: Iterable[Approximation] | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """What one call shows at a site: the extremes and a subsample of every named quantity."""
    found = quantities(node, args, kwargs, stretch, approximations)
    return {name: (summary(q), subsample(q)) for name, q in found.items()}


def statistics_of(
    site: Site, seen: Mapping[str, tuple[Tensor, Tensor]], synthetic: bool, stretch: float = STRETCH
) -> SiteStatistics:
    """The statistics of a site from `seen_at` of all calls (each with a leading dimension for the calls)."""
    for name, (rows, _) in seen.items():
        if not torch.isfinite(rows).all():
            raise RangeError(f"{name} is NaN or infinite on the calibration inputs", where=f"site {site.name}")
    ranges = {name: merged(rows) for name, (rows, _) in seen.items()}
    samples = {name: _thinned(values.reshape(-1), SAMPLES) for name, (_, values) in seen.items()}
    return SiteStatistics(site, ranges, samples, calibrated=not synthetic, stretch=stretch)


def subsample(values: Tensor) -> Tensor:
    """What is kept of one call's values."""
    return _thinned(values.double().reshape(-1), SAMPLES_A_CALL)


def _thinned(values: Tensor, most: int) -> Tensor:
    """At most `most` of the values, at fixed and evenly spread places (a stride would favour some columns)."""
    if len(values) <= most:
        return values
    return values[_places(len(values), most)]


@cache
def _places(count: int, most: int) -> Tensor:
    return torch.from_numpy(np.sort(np.random.default_rng(SEED).choice(count, most, replace=False)))


def calls(graph_module: fx.GraphModule, inputs: Inputs) -> list[tuple[Tensor, ...]]:
    """The calibration inputs one call at a time, each a tuple of tensors of the graph's static shapes."""
    return list(zip(*stack_calls(graph_module, inputs), strict=True))
