"""A product whose result is only read in slices of its channels becomes one product a slice. Exact.

    q, k, v = linear(x, w, b).reshape(B, N, 3, H, D).permute(2, 0, 3, 1, 4).unbind(0)
    ->  q = linear(x, w[:C], b[:C]).reshape(B, N, 1, H, D).permute(2, 0, 3, 1, 4).reshape(B, H, N, D), k and v alike

Between the product and the slices there may be any reshapes and permutations, also with the three interleaved with
heads. Secure products of one value share its opening, so three products cost what one does; but now each has its own
readers, which `slice_early` needs (only query rows are left out), and its own fraction bits. Channels that nothing
reads disappear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal, arguments, is_constant, run
from mpcc.rewrite.slices import cut_of

aten = torch.ops.aten
NAME = "split_projection"


@dataclass(frozen=True)
class Leaf:
    """A slice of a product's channels: the views that lead to it, their shapes for its part alone, and its channels."""

    slice: fx.Node
    views: tuple[fx.Node, ...]
    sizes: tuple[tuple[int, ...], ...]
    rows: tuple[int, ...]


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in graph_module.graph.nodes:  # also the parts that it makes, which may be sliced again
        found = leaves(node) if node.target is aten.linear.default else []
        if isinstance(found, Refusal):
            edit.refuse(found)
        elif found:
            split(edit, node, found)
    return edit.finish()


def leaves(linear: fx.Node) -> list[Leaf] | Refusal:
    """The slices that together are all that is read of a product; empty if its channels are not sliced at all."""
    paths = [*_paths(linear, ())]
    if not any(cut_of(path[-1]) for path in paths):
        return []
    if not all(is_constant(w) for w in arguments(linear).values() if w is not None and w is not linear.args[0]):
        return Refusal(linear, "its weight or bias is computed")
    found: list[Leaf] = []
    for path in paths:
        leaf = _leaf(linear, path)
        if isinstance(leaf, Refusal):
            return leaf
        found.append(leaf)
    parts = {leaf.rows for leaf in found}
    if sum(map(len, parts)) > len(set().union(*parts)):
        return Refusal(linear, "its slices overlap")
    return found


def _paths(node: fx.Node, path: tuple[fx.Node, ...]) -> Sequence[tuple[fx.Node, ...]]:
    """The ways down from `node` through reshapes and permutations, each up to and with the first other reader."""
    found: list[tuple[fx.Node, ...]] = []
    for user in node.users:
        goes_on = user.target in (aten.reshape.default, aten.permute.default) and user.users
        found += _paths(user, (*path, user)) if goes_on else [(*path, user)]
    return found


def _leaf(linear: fx.Node, path: tuple[fx.Node, ...]) -> Leaf | Refusal:
    """Follow the cut of the last node up to the product, and check the result on numbered positions."""
    *views, last = path
    cut = cut_of(last)
    if cut is None:
        return Refusal(linear, f"{last.name} reads all of it")
    dim, part, sizes = cut.dim, cut.size, list[tuple[int, ...]]()
    for view in reversed(views):
        old = shape_of(view)
        sizes.insert(0, (*old[:dim], part, *old[dim + 1 :]))
        above = _up(view, dim, part)
        if above is None:
            return Refusal(view, f"dimension {dim}, sliced by {last.name}, is no part of one dimension of its operand")
        dim, part = above
    if dim != len(shape_of(linear)) - 1:
        return Refusal(linear, f"{last.name} slices no channels")
    positions = torch.arange(math.prod(shape_of(linear))).reshape(shape_of(linear))
    wanted = positions
    for node in path:
        wanted = run(node, wanted)
    rows = torch.unique(wanted % positions.shape[-1])
    leaf = Leaf(last, tuple(views), tuple(sizes), tuple(rows.tolist()))
    if len(rows) != part or not torch.equal(_replay(leaf, positions[..., rows]), wanted):
        return Refusal(linear, f"{last.name} does not read the same channels everywhere")
    return leaf


def _up(view: fx.Node, dim: int, part: int) -> tuple[int, int] | None:
    """The dimension of the operand that `dim` of a view's result is split off from, and its size if `part` is left."""
    if view.target is aten.permute.default:
        order = arguments(view)["dims"]
        return order[dim] % len(order), part
    before, after = shape_of(arguments(view)["self"]), shape_of(view)
    start, end = math.prod(after[:dim]), math.prod(after[: dim + 1])
    for i, size in enumerate(before):
        outer, inner = math.prod(before[:i]), math.prod(before[: i + 1])
        if size > 1 and outer <= start and end <= inner and start % outer == 0 and inner % end == 0:
            return i, size // after[dim] * part
    return None


def _replay(leaf: Leaf, value: Tensor) -> Tensor:
    for view, sizes in zip(leaf.views, leaf.sizes, strict=True):
        value = value.reshape(sizes) if view.target is aten.reshape.default else run(view, value)
    return value.reshape(shape_of(leaf.slice))


def split(edit: Edit, linear: fx.Node, found: list[Leaf]) -> None:
    """One product for each set of channels, then the views of each slice on it."""
    products: dict[tuple[int, ...], fx.Node] = {}
    behind = linear.next  # so that the walk meets the new products
    for rows in sorted({leaf.rows for leaf in found}):
        products[rows] = _product(edit, linear, behind, rows, len(products))
    for leaf in found:
        value = products[leaf.rows]
        for view, sizes in zip(leaf.views, leaf.sizes, strict=True):
            rest = sizes if view.target is aten.reshape.default else arguments(view)["dims"]
            value = edit.call(leaf.slice, view.target, value, list(rest), like=view)  # type: ignore[arg-type]
        if shape_of(value) != shape_of(leaf.slice):
            value = edit.call(leaf.slice, aten.reshape.default, value, list(shape_of(leaf.slice)), like=leaf.slice)
        edit.replace(leaf.slice, value)


def _product(edit: Edit, linear: fx.Node, behind: fx.Node, rows: tuple[int, ...], number: int) -> fx.Node:
    """The product of some output channels; its parameters are `<layer>.part<number>.weight` and `.bias`."""
    given, index = arguments(linear), torch.tensor(rows)
    parameters = []
    for key in ("weight", "bias"):
        old = given[key]
        if old is not None:
            home, _, leaf = str(old.target).rpartition(".")
            name = ".".join(filter(None, (home, f"part{number}", leaf)))
            parameters.append(edit.parameter(behind, edit.tensor(old)[index], old, name, made_of=[old]))
    return edit.call(behind, aten.linear.default, given["input"], *parameters, like=linear)


SPLIT_PROJECTION = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="CrypTen prototype of this project: products of one value share its opening",
    summary="Splits a joint query-key-value product into one product a slice, so that each can be narrowed by itself.",
    after=("cse",),
)
