"""What is measured at each kind of site, so that a fit can use it: named quantities of the operator's own arguments.

    softmax      centred (row minus its mean), denominator (mean of exp of that), gap (row minus its maximum) ... all of
                 them with the logits stretched by STRETCH, so that what is a little sharper still lies inside; of a
                 masked one, with the mask off, and over what each row sees
    norms        variance (or mean_square), with eps, as it stands under the root
    two operands difference
    every site   input, and what the approximations of its operator declare (`Approximation.quantities`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from mpcc import registry
from mpcc.approximate import Approximation, Site
from mpcc.approximate.expand import ATTRIBUTES
from mpcc.approximate.logit_margin import STRETCH
from mpcc.approximate.masks import MASKED, mask_at
from mpcc.approximate.split import bind
from mpcc.errors import UsageError
from mpcc.ir.nn import operator_of, shape_of

MOST_EXPONENT = 85.0
"""Of the exponentials that are averaged: above e^88 float32 ends, and long before that no candidate takes such a row."""

Arguments = Mapping[str, Any]
Quantities = dict[str, Tensor]


def site_of(node: fx.Node) -> Site:
    """The site at a non-linear operator of an nn-level graph."""
    operator = operator_of(node)
    assert operator is not None and isinstance(node.args[0], fx.Node)
    bound = bind(node.target, node.args, node.kwargs)
    attributes = {name: bound[name] for name in ATTRIBUTES.get(operator.name, ()) if name in bound}
    if mask_at(node) is not None:
        attributes["masked"] = True
    return Site(node.meta["site"], operator.name, node.meta["layer"], shape_of(node.args[0]), attributes)


def quantities(
    node: fx.Node,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    stretch: float = STRETCH,
    approximations: Iterable[Approximation] | None = None,
) -> Quantities:
    """The quantities at the site `node` for one call's arguments; with `stretch` 1 as they are.

    `approximations` (default: all installed ones) may declare further ones. UsageError if two declare one of one name.
    """
    bound = bind(node.target, args, kwargs)
    operator = operator_of(node)
    assert operator is not None
    first = next(value for value in bound.values() if isinstance(value, Tensor))
    bound["masked"] = mask_at(node) is not None
    found = {"input": first, **MEASURES.get(operator.name, _nothing)(first, bound, stretch)}
    attributes = {name: bound[name] for name in ATTRIBUTES.get(operator.name, ()) if name in bound}
    for one in registry.approximations().values() if approximations is None else approximations:
        if one.operator == operator.name:
            declared = one.quantities(found["input"], **attributes)
            if taken := found.keys() & declared.keys():
                raise UsageError(
                    f"the quantity {min(taken)!r} of {one.operator} is measured already",
                    where=f"approximation {one.name}", hint="give it another name",
                )  # fmt: skip
            found |= declared
    return found


def _nothing(x: Tensor, bound: Arguments, stretch: float) -> Quantities:
    return {}


def _softmax(x: Tensor, bound: Arguments, stretch: float) -> Quantities:
    dim, seen = bound["dim"], x > MASKED / 2 if bound["masked"] else None
    x = x if seen is None else torch.where(seen, x, x - MASKED)

    def mean(values: Tensor) -> Tensor:
        if seen is None:
            return values.mean(dim, keepdim=True)
        return (values * seen).sum(dim, keepdim=True) / seen.sum(dim, keepdim=True)

    centred = (x - mean(x)) * stretch
    centred = centred if seen is None else centred * seen
    grown = centred.clamp(max=MOST_EXPONENT)
    half, third, whole = mean((grown / 2).exp()), mean((grown / 3).exp()), mean(grown.exp())
    return {
        "input": x,
        "centred": centred,
        "denominator": whole,
        "half_denominator": half,
        "third_denominator": third,
        "quarter_denominator": mean((grown / 4).exp()),
        "sixth_denominator": mean((grown / 6).exp()),
        "sharpness": whole / half.square(),
        "third_sharpness": whole / third.pow(3),
        "gap": (x - x.amax(dim, keepdim=True)) * stretch,
    }


def _layer_norm(x: Tensor, bound: Arguments, stretch: float) -> Quantities:
    dims = tuple(range(-len(bound["normalized_shape"]), 0))
    return {"variance": x.var(dims, unbiased=False) + bound["eps"]}


def _rms_norm(x: Tensor, bound: Arguments, stretch: float) -> Quantities:
    dims = tuple(range(-len(bound["normalized_shape"]), 0))
    eps = bound.get("eps")
    return {"mean_square": x.square().mean(dims) + (torch.finfo(x.dtype).eps if eps is None else eps)}


def _group_norm(x: Tensor, bound: Arguments, stretch: float) -> Quantities:
    groups = x.reshape(x.shape[0], bound["num_groups"], -1)
    return {"variance": groups.var(-1, unbiased=False) + bound["eps"]}


def _two_operands(x: Tensor, bound: Arguments, stretch: float) -> Quantities:
    return {"difference": x - bound["other"]}


MEASURES: dict[str, Callable[[Tensor, Arguments, float], Quantities]] = {
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "maximum": _two_operands,
    "minimum": _two_operands,
}
