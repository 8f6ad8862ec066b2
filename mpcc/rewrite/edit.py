"""Editing a graph so that it stays valid: new nodes with shape, layer, site and provenance; new parameters; refusals.

A pass makes one `Edit`, walks the nodes, and returns `edit.finish()`:

    edit = Edit(graph_module, "my_pass")
    new = edit.call(node, aten.linear.default, x, weight, bias, like=node)     # recorded just before `node`
    edit.replace(node, new)

Works on both levels. A rule that does not fire says why by `edit.refuse(...)`. What `finish` returns says where the pass
fired and why it did not fire elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from mpcc.ir.names import register, replace_tensor
from mpcc.ir.nn import PUBLIC, attribute, describe, is_site, meta_tensor
from mpcc.ir.site_ends import hand_on
from mpcc.ir.trace import Recorder


@dataclass(frozen=True)
class Refusal:
    """Why a rule does not fire, and at which node."""

    node: fx.Node
    reason: str

    def __str__(self) -> str:
        return f"{describe(self.node)}: {self.reason}"

    @property
    def layer(self) -> str:
        """The user's layer, or the node where it has none."""
        return str(self.node.meta.get("layer") or self.node.name)


class Changes(list[str]):
    """Names of the nodes that a pass made or rewired; empty if it changed nothing.

    `layers`: the user's layers where it fired. `refusals`: where it did not fire, and why.
    """

    def __init__(self, nodes: Iterable[str] = (), layers: Iterable[str] = (), refusals: Iterable[Refusal] = ()) -> None:
        super().__init__(nodes)
        self.layers, self.refusals = tuple(layers), tuple(refusals)


class Edit:
    """The edits of one run of the pass `name` on one graph; `refusals` says what was not done, and why."""

    def __init__(self, graph_module: fx.GraphModule, name: str) -> None:
        self.graph_module, self.graph, self.name = graph_module, graph_module.graph, name
        self.refusals: list[Refusal] = []
        self._changed: list[str] = []
        self._layers: dict[str, None] = {}  # where something changed, in order

    # ------------------------------------------------------------------------------------------------------ nodes

    def call(self, anchor: fx.Node, function: Callable[..., Any], *args: Any, like: fx.Node, **kwargs: Any) -> fx.Node:
        """Record `function` just before `anchor`, with the layer, site and provenance of `like`."""
        with self.graph.inserting_before(anchor):
            node: fx.Node = Recorder(self.graph, self._meta(like)).call(function, *args, **kwargs)
        if is_site(like) and not is_site(node):
            del node.meta["site"]
        self._changed.append(node.name)
        self._layers[str(like.meta.get("layer", ""))] = None
        return node

    def call_after(self, anchor: fx.Node, function: Callable[..., Any], *args: Any, like: fx.Node) -> fx.Node:
        """Record `function` right after its operand `anchor`, but behind the inputs and parameters that follow."""
        later = anchor.next
        while later.op in ("placeholder", "get_attr"):
            later = later.next
        return self.call(later, function, *args, like=like)

    def replace(self, old: fx.Node, new: fx.Node) -> None:
        """Let every reader of `old` read `new`, and remove `old`."""
        old.replace_all_uses_with(new)
        hand_on(old, new)
        self._layers[str(old.meta.get("layer", ""))] = None
        self.graph.erase_node(old)
        self._changed.append(new.name)

    def drop(self, node: fx.Node) -> None:
        """Remove `node` if nothing reads it, and then what it alone read."""
        if node.users or node.op != "call_function":
            return
        operands = node.all_input_nodes
        self.graph.erase_node(node)
        for operand in operands:
            self.drop(operand)

    def refuse(self, refusal: Refusal) -> None:
        """Note that a rule does not fire here."""
        self.refusals.append(refusal)

    def finish(self) -> Changes:
        """Remove what nothing reads any more, and its parameters; the names of the nodes that are new or newly read."""
        if not self._changed:
            return Changes(refusals=self.refusals)
        before = {str(node.target) for node in self.graph.nodes if node.op == "get_attr"}
        self.graph.eliminate_dead_code()
        for target in before - {str(node.target) for node in self.graph.nodes if node.op == "get_attr"}:
            self._forget(target)
        alive = {node.name for node in self.graph.nodes}
        nodes = [name for name in dict.fromkeys(self._changed) if name in alive] or ["output"]
        return Changes(nodes, [layer for layer in self._layers if layer] or ["the graph"], self.refusals)

    def _meta(self, like: fx.Node) -> dict[str, Any]:
        made_by = tuple(like.meta.get("made_by", ()))
        if self.name not in made_by[-1:]:
            made_by = (*made_by, self.name)
        kept: dict[str, Any] = {key: like.meta[key] for key in ("site", "part") if key in like.meta}
        return {"layer": like.meta.get("layer", ""), "made_by": made_by, **kept}

    # ------------------------------------------------------------------------------------------------- parameters

    def tensor(self, node: fx.Node) -> Tensor:
        """The parameter or buffer that a `get_attr` node reads, without its gradient."""
        value: Tensor = attribute(self.graph_module, str(node.target))
        return value.detach()

    def trains(self, node: fx.Node) -> bool:
        """Whether a `get_attr` node reads a parameter that is trained."""
        value = attribute(self.graph_module, str(node.target))
        return isinstance(value, nn.Parameter) and value.requires_grad

    def parameter(
        self, anchor: fx.Node, value: Tensor, old: fx.Node, name: str | None = None, *, made_of: Iterable[fx.Node] = ()
    ) -> fx.Node:
        """A `get_attr` node just before `anchor` for `value`, which is made from what `old` reads.

        It is public where all is that it was `made_of`: every parameter that `value` was computed from. Unsaid, it is secret.
        It takes the name `name` if that is free, else with a number; without `name`, that of `old` if nothing but
        `anchor` reads it. It has the dtype of `old`, and is a parameter that trains if `old` is one.
        """
        source: Tensor = attribute(self.graph_module, str(old.target))
        wanted = name or str(old.target)
        value = value.detach().to(source.dtype).contiguous().clone()
        if wanted == old.target and self._reads_alone(anchor, wanted):
            replace_tensor(self.graph_module, wanted, value)
        else:
            wanted = register(self.graph_module, wanted, value, trainable=isinstance(source, nn.Parameter))
        if isinstance(source, nn.Parameter):
            attribute(self.graph_module, wanted).requires_grad_(source.requires_grad)
        with self.graph.inserting_before(anchor):
            node = self.graph.create_node("get_attr", wanted)
        meta = self._meta(old)
        node.meta.update({**meta, "layer": meta["layer"] or anchor.meta.get("layer", ""), "val": meta_tensor(value)})
        sources = list(made_of)
        if sources and all(source.op == "get_attr" and source.meta.get(PUBLIC) for source in sources):
            node.meta[PUBLIC] = True
        return node

    def _reads_alone(self, reader: fx.Node, target: str) -> bool:
        reads = [node for node in self.graph.nodes if node.op == "get_attr" and node.target == target]
        return all(set(node.users) <= {reader} for node in reads)

    def _forget(self, target: str) -> None:
        path, _, leaf = target.rpartition(".")
        home = self.graph_module.get_submodule(path)
        if hasattr(home, leaf):
            delattr(home, leaf)


def bias_name(weight: fx.Node) -> str:
    """The name of a bias beside the weight that `weight` reads: `blocks.0.fc1.weight` -> `blocks.0.fc1.bias`."""
    target = str(weight.target)
    name = re.sub(r"weight(?=(_\d+)?$)", "bias", target)
    return name if name != target else f"{target}_bias"


def is_constant(node: Any) -> bool:
    """Whether `node` reads a parameter or buffer."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an ATen call by name, defaults filled in."""
    bound: dict[str, Any] = {}
    for position, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if position < len(node.args):
            bound[argument.name] = node.args[position]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value if argument.has_default_value() else None
    return bound


def run(node: fx.Node, *tensors: Tensor) -> Tensor:
    """What `node` computes when its tensor operands are `tensors`, in order, and its other arguments are kept."""
    given = iter(tensors)
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda _: next(given))
    result: Tensor = node.target(*args, **kwargs)  # type: ignore[operator]
    return result
