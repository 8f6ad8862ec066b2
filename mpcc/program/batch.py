"""A program for several inputs at once: every value gets one more dimension in front, so a batch takes the rounds of one.

    batched(program, 16)      inputs [1, 1, 8, 8] -> [16, 1, 1, 8, 8], outputs [1, 10] -> [16, 1, 10]

Both graphs are written anew, node by node, under the same names. Three kinds of nodes:

    fixed     what depends on weights alone, and lives as long as the set-up: as it was
    values    [*shape] -> [size, *shape]
    flat      packed bits, tables and trees, made of the flattening of values: of size times as many

Nothing else changes: the same scales, truncations and rings, so the answers are those of the program itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import fx

from mpcc.errors import UnsupportedOperator
from mpcc.ir import curve, dealer, online, opcodes
from mpcc.ir.info import KEY, Info, info_of, input_of
from mpcc.ir.nn import shape_of, size_of
from mpcc.ir.opcodes import BY_FUNCTION, aten
from mpcc.ir.ring import words
from mpcc.ir.uncompiled import Uncompiled

from .program import Program
from .rounds import fixed_for_model, schedule

Kind = Literal["fixed", "values", "flat"]
Rule = Callable[["_Batch", fx.Node], fx.Node]
HINT = "Serve it with batches of 1."


def batched(program: Program, size: int) -> Program:
    """The program for `size` inputs; for 1 the program itself. UnsupportedOperator names a node that cannot be batched."""
    if size == 1:
        return program
    fixed = fixed_for_model(program.dealer.graph)
    dealt = _Batch(size, fixed, _plane_words(program, size))
    for node in program.dealer.graph.nodes:
        if node.op != "output":
            dealt.write(node)
    sources = dict(program.correlations)
    made = _Batch(size, set(), {}, {share: dealt.made[dealt.named[source]] for share, source in sources.items()}, dealt.kinds)
    for node in program.online.graph.nodes:
        if node.op != "output":
            made.write(node)
    online_graph, dealer_graph = made.graph, dealt.graph
    online_graph.output(tuple(made.made[program.nodes[name]] for name, _ in program.outputs))
    dealer_graph.output(tuple(dealt.made[dealt.named[source]] for _, source in program.correlations))
    lasting = fixed_for_model(dealer_graph)
    shares = {made.made[program.nodes[share]]: made.sources[share] for share in sources}
    schedule(online_graph, {share for share, source in shares.items() if source in lasting})
    return Program(
        Uncompiled(online_graph),
        Uncompiled(dealer_graph),
        tuple((share.name, source.name) for share, source in shares.items()),
        program.outputs,
        program.constants,
        tuple((name, size * count, min(1.0, size * p)) for name, count, p in program.failures),
    )


def _plane_words(program: Program, size: int) -> dict[str, int]:
    """How many words a plane of masks has in the batch, by its dealer node: packed bits of all inputs follow one another."""
    sources, found = dict(program.correlations), {}
    for node in program.online.graph.nodes:
        if node.target is online.mask_bits and node.args[0].target is online.planes:
            leaf, mask = node.args[0].args[0], node.args[1]
            found[sources[mask.name]] = words(size * size_of(leaf.args[0]))
    return found


class _Batch:
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

    def write(self, node: fx.Node) -> None:
        """Write one node of the old graph."""
        self.named[node.name] = node
        if node.op == "placeholder":
            self._placeholder(node)
            return
        operands = [self.made[operand] for operand in node.all_input_nodes]
        rule = RULES.get(node.target)
        if rule is None:
            raise refused(node, "has no rule for batches")
        drawn = node.target in dealer.RANDOM
        if (node in self.fixed if drawn else all(self.kinds[one] == "fixed" for one in operands)) and rule is not weight_share:
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
    return replace(info_of(node), phase=None, level=0)


def refused(node: fx.Node, what: str) -> UnsupportedOperator:
    name = BY_FUNCTION[node.target].name if node.target in BY_FUNCTION else str(node.target)  # type: ignore[index]
    return UnsupportedOperator(f"{name} {what}", where=node.name, hint=HINT)


# ---- element by element, and what flattens its operands itself ---------------------------------------------------------


def elementwise(batch: _Batch, node: fx.Node) -> fx.Node:
    return batch.copy(node, *batch.broadcast(node))


def natural(batch: _Batch, node: fx.Node) -> fx.Node:
    """The kernel takes what it gets."""
    return batch.copy(node)


def of_shape(place: int) -> Rule:
    """Argument `place` is a shape that the result has."""

    def rule(batch: _Batch, node: fx.Node) -> fx.Node:
        args = list(fx.node.map_arg(tuple(node.args), lambda old: batch.made[old]))
        args[place] = [batch.size, *_sizes(node.args[place])]
        return batch.copy(node, *args)

    return rule


def drawn_flat(batch: _Batch, node: fx.Node) -> fx.Node:
    """roots(shape): of size times as many trees."""
    count, *rest = _sizes(node.args[0])
    return batch.copy(node, [batch.size * count, *rest])


def plane_masks(batch: _Batch, node: fx.Node) -> fx.Node:
    if node.name not in batch.planes:
        raise refused(node, "masks no comparison")
    return batch.copy(node, batch.planes[node.name])


def weight_share(batch: _Batch, node: fx.Node) -> fx.Node:
    """W is the same for all inputs; as a share it is theirs."""
    weight, shape = node.args
    made = batch.call(node.target, (batch.new(weight), list(_sizes(shape))), node, f"{node.name}_once")
    return batch.call(aten.expand.default, (made, [batch.size, *_sizes(shape)]), node, node.name)


def add_weight(batch: _Batch, node: fx.Node) -> fx.Node:
    x, weight, shape = node.args
    sizes = _sizes(shape)
    return batch.copy(node, batch.aligned(_node(x), len(sizes)), batch.new(weight), [batch.size, *sizes])


def total(batch: _Batch, node: fx.Node) -> fx.Node:
    x, dims, keep = node.args
    rank = len(shape_of(_node(x)))
    return batch.copy(node, batch.new(x), _moved(_sizes(dims) or list(range(rank)), rank), keep)


# ---- products ----------------------------------------------------------------------------------------------------------


def bilinear(operands: int) -> Rule:
    """A product; the first so many nodes are its operands and their masks, others are shares of the result."""

    def rule(batch: _Batch, node: fx.Node) -> fx.Node:
        kind, x, y = node.args[0], _node(node.args[1]), _node(node.args[2])
        if kind == "conv":
            return _convolution(batch, node)
        rank = max(len(shape_of(x)), len(shape_of(y)))
        if kind != "mul" and _as_matrix(batch, node, x, y):
            rank = 0
        args = list(node.args)
        for place, arg in enumerate(args):
            if isinstance(arg, fx.Node):
                args[place] = batch.aligned(arg, rank) if place <= operands else batch.new(arg)
        return batch.copy(node, *args)

    return rule


def _as_matrix(batch: _Batch, node: fx.Node, x: fx.Node, y: fx.Node) -> bool:
    """Whether x is multiplied by one fixed matrix from the right, whatever its dimensions in front.

    Elsewhere dimensions in front are a batch already, and a vector with one would be taken for a matrix.
    """
    one = batch.kinds[batch.made[y]] == "fixed" and len(shape_of(y)) <= 2
    if one and node.args[0] != "rmatmul":
        return True
    for operand in (x, y):
        if len(shape_of(operand)) < 2 and batch.kinds[batch.made[operand]] == "values":
            raise refused(node, "multiplies vectors")
    return False


def _convolution(batch: _Batch, node: fx.Node) -> fx.Node:
    """The batch joins the first dimension of x, of its mask, and of the result."""
    if batch.kinds[batch.made[_node(node.args[2])]] != "fixed":
        raise refused(node, "convolves two secret values")
    args: list[Any] = []
    for arg in node.args:
        if isinstance(arg, fx.Node):
            made = batch.new(arg)
            sizes = shape_of(made)
            joined = [sizes[0] * sizes[1], *sizes[2:]]
            args.append(batch.view(aten.reshape.default, made, made, joined) if batch.kinds[made] == "values" else made)
        else:
            args.append(arg)
    product = batch.call(node.target, args, node, f"{node.name}_joined")
    return batch.call(aten.reshape.default, (product, [batch.size, *shape_of(node)]), node, node.name)


# ---- views -------------------------------------------------------------------------------------------------------------


def view(change: Callable[[_Batch, fx.Node, int, list[Any]], None]) -> Rule:
    """A view of values: `change` writes the arguments for the dimension in front."""

    def rule(batch: _Batch, node: fx.Node) -> fx.Node:
        for operand in node.all_input_nodes:
            if batch.kinds[batch.made[operand]] == "flat":
                raise refused(node, "is a view of packed bits")
        args = list(fx.node.map_arg(tuple(node.args), lambda old: batch.whole(old)))
        change(batch, node, len(shape_of(node.all_input_nodes[0])), args)
        return batch.copy(node, *args)

    return rule


def _reshape(batch: _Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1] = [batch.size, *shape_of(node)]


def _expand(batch: _Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[0] = batch.aligned(_node(node.args[0]), len(shape_of(node)))
    args[1] = [batch.size, *shape_of(node)]


def _permute(batch: _Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1] = [0, *_moved(args[1], rank)]


def _one_dim(batch: _Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1:2] = _moved([args[1] if len(args) > 1 else 0], rank)


def _dims(batch: _Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1] = _moved(args[1], rank)


def _roll(batch: _Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    if len(args) < 3 or not args[2]:
        raise refused(node, "rolls all dimensions as one")
    args[2] = _moved(args[2], rank)


def _gather(batch: _Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1] = [None, *args[1]]


def _same(batch: _Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    pass


def _moved(dims: Sequence[int], rank: int) -> list[int]:
    return [dim % rank + 1 for dim in dims]


def _sizes(value: Any) -> list[int]:
    return [int(size) for size in value]


def _node(value: Any) -> fx.Node:
    assert isinstance(value, fx.Node)
    return value


FLAT = frozenset(
    {
        dealer.plane_masks, dealer.tables, dealer.sign, dealer.mask_products, dealer.packed, dealer.roots, dealer.tree_keys,
        dealer.powers, dealer.tree, online.leaves, online.planes, online.mask_bits, online.open_bits, online.and_planes,
    }
)  # fmt: skip
"""Operations whose result is laid out over the flattening of values, or once for all."""

RULES: dict[Any, Rule] = {
    **dict.fromkeys(
        (
            online.open_, online.reveal, online.flooded, online.mask_with, online.times, online.combine, online.add_public,
            online.moved, online.truncate_locally, online.truncated, online.multilinear, online.power_sum, online.select,
            dealer.high, dealer.top, dealer.multiply, dealer.point,
        ),
        elementwise,
    ),
    **dict.fromkeys(
        (
            online.open_bits, online.mask_bits, online.leaves, online.planes, online.and_planes, curve.curve, dealer.tables,
            dealer.sign, dealer.mask_products, dealer.packed, dealer.powers, dealer.tree, dealer.tree_keys,
            online.open_weight,
        ),
        natural,
    ),
    **dict.fromkeys((dealer.mask, dealer.random_bits, dealer.noise, dealer.weight_mask), of_shape(0)),
    dealer.roots: drawn_flat,
    dealer.plane_masks: plane_masks,
    dealer.product: bilinear(2),
    online.bit_number: of_shape(2),
    online.weight_share: weight_share,
    online.add_weight: add_weight,
    online.total: total,
    online.product: bilinear(4),
    online.weight_product: bilinear(2),
    online.mask_weight_product: bilinear(2),
    aten.reshape.default: view(_reshape),
    aten.permute.default: view(_permute),
    aten.expand.default: view(_expand),
    aten.slice.Tensor: view(_one_dim),
    aten.select.int: view(_one_dim),
    aten.cat.default: view(_one_dim),
    aten.constant_pad_nd.default: view(_same),
    aten.roll.default: view(_roll),
    aten.flip.default: view(_dims),
    online.gather: view(_gather),
    online.apply_mask: view(_same),
    online.scale_rows: view(_same),
}
"""One for each operation of `mpcc.ir.opcodes`: a test holds the two to each other."""
