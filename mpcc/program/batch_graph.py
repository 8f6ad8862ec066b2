"""One graph of a program, written anew for a batch: node by node under the same names, and what kind of value each is.

    fixed     what depends on weights alone, and lives as long as the set-up: as it was
    values    [*shape] -> [size, *shape]
    flat      packed bits, tables and trees, made of the flattening of values: of size times as many
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import fx

from mpcc.errors import UnsupportedOperator
from mpcc.ir import dealer, online, opcodes
from mpcc.ir.info import KEY, Info, info_of, input_of
from mpcc.ir.nn import shape_of
from mpcc.ir.opcodes import BY_FUNCTION, aten

Kind = Literal["fixed", "values", "flat"]
Rule = Callable[["Batch", fx.Node], fx.Node]
HINT = "Serve it with batches of 1."
FLAT = frozenset(
    {
        dealer.plane_masks, dealer.tables, dealer.sign, dealer.mask_products, dealer.packed, dealer.roots, dealer.tree_keys,
        dealer.powers, dealer.tree, online.leaves, online.planes, online.mask_bits, online.open_bits, online.and_planes,
    }
)  # fmt: skip
"""Operations whose result is laid out over the flattening of values, or once for all."""
SHARED = frozenset({online.weight_share})
"""What makes values of weights alone."""


class Batch:
    """One graph, written anew for `size` inputs."""

    def __init__(
        self,
        size: int,
        fixed: set[fx.Node],
        planes: Mapping[str, int],
        sources: Mapping[str, fx.Node] | None = None,
        source_kinds: Mapping[fx.Node, Kind] | None = None,
    ) -> None:
        """`fixed`: of a dealer graph. `sources`: of an online graph, share -> the dealer's new node."""
        self.size, self.fixed, self.planes = size, fixed, planes
        self.sources, self.source_kinds = dict(sources or {}), source_kinds or {}
        self.graph = fx.Graph()
        self.made: dict[fx.Node, fx.Node] = {}
        self.named: dict[str, fx.Node] = {}
        """The old nodes by name."""
        self.kinds: dict[fx.Node, Kind] = {}
        """Of the new nodes."""
        self.rank: dict[fx.Node, int] = {}
        """How many dimensions a new node had before."""

    def write(self, node: fx.Node, rules: Mapping[Any, Rule]) -> None:
        """Write one node of the old graph. UnsupportedOperator where there is no rule for it."""
        self.named[node.name] = node
        if node.op == "placeholder":
            self._placeholder(node)
            return
        operands = [self.made[operand] for operand in node.all_input_nodes]
        rule = rules.get(node.target)
        if rule is None:
            raise refused(node, "has no rule for batches")
        drawn = node.target in dealer.RANDOM
        if (node in self.fixed if drawn else all(self.kinds[one] == "fixed" for one in operands)) and node.target not in SHARED:
            self.keep(node, self.copy(node), "fixed")
            return
        made = rule(self, node)
        self.keep(node, made, "flat" if node.target in FLAT else "values")

    def keep(self, node: fx.Node, made: fx.Node, kind: Kind) -> None:
        self.made[node], self.kinds[made], self.rank[made] = made, kind, len(shape_of(node))

    def _placeholder(self, node: fx.Node) -> None:
        made = self.graph.create_node("placeholder", node.name, name=node.name)
        made.meta = {KEY: _unscheduled(node)}
        source = self.sources.get(node.name)
        if source is not None:
            shape, kind = shape_of(source), self.source_kinds[source]
        elif input_of(node) is not None:
            shape, kind = (self.size, *shape_of(node)), "values"
        else:
            shape, kind = shape_of(node), "fixed"
        made.meta["val"] = node.meta["val"].new_empty(shape, device="meta")
        self.keep(node, made, kind)

    def copy(self, node: fx.Node, *args: Any) -> fx.Node:
        """The node again, under its name; with its own arguments, or with these."""
        given = args or fx.node.map_arg(tuple(node.args), lambda old: self.made[old])
        return self.call(node.target, given, node, node.name)

    def view(self, target: Any, like: fx.Node, *args: Any) -> fx.Node:
        """A view more, which belongs to where `like` comes from."""
        made = self.call(target, args, like, f"{like.name}_view")
        self.kinds[made], self.rank[made] = "values", len(shape_of(made)) - 1
        return made

    def call(self, target: Any, args: Sequence[Any], like: fx.Node, name: str) -> fx.Node:
        """A node of this name, or one derived from it, that belongs to where `like` comes from."""
        made = self.graph.create_node("call_function", target, tuple(args), name=name)
        made.meta = {KEY: _unscheduled(like) if name == like.name else replace(_unscheduled(like), end=None, given=None)}
        made.meta["val"] = opcodes.value_of(BY_FUNCTION[target], made)
        return made

    # -- operands --

    def new(self, operand: Any) -> fx.Node:
        return self.made[operand]

    def aligned(self, operand: fx.Node, rank: int) -> fx.Node:
        """The new operand as one of `rank` dimensions and the batch: [size, 3] -> [size, 1, 3]. Fixed ones broadcast anyway."""
        made = self.made[operand]
        missing = rank - self.rank[made]
        if missing <= 0 or self.kinds[made] != "values":
            return made
        return self.view(aten.reshape.default, made, made, [self.size, *(1,) * missing, *shape_of(made)[1:]])

    def broadcast(self, node: fx.Node) -> tuple[Any, ...]:
        """All arguments, with operands of fewer dimensions aligned to that which has most."""
        rank = max(len(shape_of(operand)) for operand in node.all_input_nodes)
        found: tuple[Any, ...] = fx.node.map_arg(tuple(node.args), lambda old: self.aligned(old, rank))
        return found

    def whole(self, operand: fx.Node) -> fx.Node:
        """The new operand with the batch in front, also where it was the same for all."""
        made = self.made[operand]
        if self.kinds[made] != "fixed":
            return made
        return self.view(aten.expand.default, made, made, [self.size, *shape_of(made)])


def _unscheduled(node: fx.Node) -> Info:
    return replace(info_of(node), phase=None, level=0, way="both")


def refused(node: fx.Node, what: str) -> UnsupportedOperator:
    name = BY_FUNCTION[node.target].name if node.target in BY_FUNCTION else str(node.target)  # type: ignore[index]
    return UnsupportedOperator(f"{name} {what}", where=node.name, hint=HINT)
