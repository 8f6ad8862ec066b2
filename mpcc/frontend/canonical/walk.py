"""Partial evaluation of a captured graph: what depends on no input is computed, the rest is emitted canonically.

Shape arithmetic, position grids, masks, table look-ups and interpolated embeddings vanish here without a rule of
their own: torch itself computes them.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from mpcc.errors import CaptureError, MpccError, ShapeError, UnsupportedOperator
from mpcc.ir.names import safe_path
from mpcc.ir.nn import OPERATORS, attribute, describe

from .builder import Builder, operator_name
from .flex import flex_attention
from .mutation import CHECKS, VMAP, NeedsFunctional, conflicts, functional_of, is_mutation, written_memory
from .number_kinds import mark
from .values import Constant, Value, known, leaves


class Walk:
    """One graph module's values, node by node; nested graphs (no_grad and autocast regions) are walked in place."""

    def __init__(
        self, builder: Builder, graph_module: fx.GraphModule, layer: str | None = None, nested: bool = False
    ) -> None:
        self.builder = builder
        self.graph_module = graph_module
        self.layer = layer
        self.values: dict[fx.Node, Any] = {}
        self.is_nested = nested
        self.written = written_memory(graph_module.graph)

    def run(self, inputs: Sequence[Any]) -> Any:
        """The values of the output node's argument, given those of the placeholders in order."""
        given = iter(inputs)
        for node in self.graph_module.graph.nodes:
            if node.op == "output":
                return self.lookup(node.args[0])
            value = next(given) if node.op == "placeholder" else self.checked(node)
            self.values[node] = self.own(node, value) if node.op in ("placeholder", "get_attr") else value
        raise AssertionError("a graph without output")

    def own(self, node: fx.Node, value: Any) -> Any:
        """What comes from outside is copied before it is written."""
        if node not in self.written:
            return value
        if self.is_nested:
            raise NeedsFunctional(node)
        if isinstance(value, Constant):
            return value.became(value.value.clone(), trainable=value.trainable, written=True)
        return value

    def lookup(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self.values[argument]
        if isinstance(argument, (list, tuple)):
            return [self.lookup(item) for item in argument]
        if isinstance(argument, dict):
            return {key: self.lookup(item) for key, item in argument.items()}
        if isinstance(argument, slice):
            return slice(self.lookup(argument.start), self.lookup(argument.stop), self.lookup(argument.step))
        return argument

    def checked(self, node: fx.Node) -> Any:
        """The value of a node; an operator that does not fit its arguments is an error that says where."""
        try:
            return self.value(node)
        except MpccError as error:
            if error.where is not None:
                raise
            raise type(error)(error.what, where=_place(node), hint=error.hint) from None
        except (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AssertionError) as error:
            refuse_foreign(self.builder.graph)
            why = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise CaptureError(f"{node.target} does not fit its arguments: {why}", where=_place(node)) from error

    def value(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            name = str(node.target)
            return constant_of(attribute(self.graph_module, name), name)
        if node.op == "call_module":
            if str(node.target).startswith("_guards"):
                return None
            raise ShapeError(f"a call of the submodule {node.target} is left in the graph", where=node.name)
        self.builder.layer = self.layer if self.layer is not None else layer_of(node)
        args, kwargs = tuple(self.lookup(arg) for arg in node.args), self.lookup(node.kwargs)
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return self.nested(node, args)
        if operator_name(node.target).startswith(CHECKS):
            return None
        if node.target is operator.getitem:
            item = self.item(args[0], args[1])
            mark(item, node.meta.get("val"))
            return item
        if is_mutation(node.target):
            return self.mutate(node, args, kwargs)
        return self.call(node, args, kwargs)

    def call(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if getattr(node.target, "__module__", None) == VMAP:
            raise NeedsFunctional(node)  # after which its axes are spelt out
        if "device" in kwargs:
            kwargs = {**kwargs, "device": None}
        if node in self.written and known((args, kwargs)):
            return self.builder.compute(node.target, args, kwargs, written=True)
        made = self.builder.do(node.target, *args, **kwargs)
        seen = node.meta.get("val")
        mark(made, seen)
        foreign = isinstance(made, fx.Node) and made.op == "call_function" and made.target not in OPERATORS
        if foreign and isinstance(seen, torch.Tensor):
            made.meta["val"] = torch.empty(seen.shape, dtype=seen.dtype, device="meta")  # torch may know no shape of it
        return made

    def item(self, value: Any, index: Any) -> Any:
        if not isinstance(value, fx.Node):
            return value[index]
        made = self.builder.graph.call_function(operator.getitem, (value, index))
        made.meta.update(val=value.meta["val"][index], layer=self.builder.layer, made_by=())
        return made

    def nested(self, node: fx.Node, args: tuple[Any, ...]) -> Any:
        if str(node.target) == "flex_attention":
            return flex_attention(self.builder, self.within, args)
        graphs = [item for item in args if isinstance(item, fx.GraphModule)]
        if str(node.target) not in ("wrap_with_set_grad_enabled", "wrap_with_autocast") or len(graphs) != 1:
            return self.call(node, args, {})
        return Walk(self.builder, graphs[0], nested=True).run(args[args.index(graphs[0]) + 1 :])

    def within(self, graph_module: fx.GraphModule, inputs: list[Any]) -> Any:
        """The values of a nested graph that has no layers of its own."""
        return Walk(self.builder, graph_module, self.builder.layer, nested=True).run(inputs)

    def mutate(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An in-place operator: really in place on constants, a new value (and no other reader of the old) on nodes."""
        if known((args, kwargs)):
            return self.call(node, args, kwargs)
        if conflicts(node):
            raise NeedsFunctional(node)
        result = self.builder.do(functional_of(node.target), *args, **kwargs)
        written = node.args[0]
        assert isinstance(written, fx.Node)
        self.values[written] = result
        return result


class ForeignOperators(UnsupportedOperator):
    """Operators that no rule knows, or whose case no rule takes; `targets` may still have a decomposition."""

    def __init__(self, nodes: Sequence[fx.Node]) -> None:
        self.targets = {node.target for node in nodes}
        lines = [f"{node.target}: {describe(node)}{_reason(node)}" for node in nodes]
        super().__init__(
            f"{len(lines)} operators have no form that works on secret values:\n    " + "\n    ".join(lines),
            hint="Constants may be computed with any operator; only what depends on an input must use supported ones.",
        )


def refuse_foreign(graph: fx.Graph) -> None:
    """UnsupportedOperator that lists what no rule brought into canonical form, if there is such an operator."""
    foreign = [
        node
        for node in graph.nodes
        if node.op == "call_function" and node.target not in OPERATORS and node.target is not operator.getitem
    ]
    if not foreign:
        return
    raise ForeignOperators(foreign)


def _reason(node: fx.Node) -> str:
    return f" ({node.meta['declined']})" if "declined" in node.meta else ""


def _place(node: fx.Node) -> str:
    layer = layer_of(node)
    return f"node {node.name} in layer {layer}" if layer else f"node {node.name}"


def constant_of(value: Any, name: str) -> Any:
    """A parameter or buffer as a constant under its own name; what is not a tensor stays."""
    if not isinstance(value, torch.Tensor):
        return value
    trainable = isinstance(value, torch.nn.Parameter) and value.is_floating_point()
    return Constant(_single(value.detach()), name, name, trainable)


def _single(value: torch.Tensor) -> torch.Tensor:
    """On the CPU; floats of any width as float32, in which everything is computed."""
    return value.to("cpu", torch.float32) if value.is_floating_point() else value.to("cpu")


def layer_of(node: fx.Node) -> str:
    """The dotted name of the user's layer: given by a front end, or the innermost of the module stack."""
    if "layer" in node.meta:
        return safe_path(str(node.meta["layer"]))
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path = next(reversed(stack.values()))[0]
    return safe_path(clean_path(path if isinstance(path, str) else ""))


def clean_path(path: str) -> str:
    """Tracing writes `L['self'].blocks[0]` or `_modules['blocks']` here and there: keep `blocks.0`."""
    path = re.sub(r"^L\['self'\]\.?|^L__self__\.?|^self\.", "", path)
    path = re.sub(r"_modules\['([^']+)'\]", r"\1", path)
    path = re.sub(r"\[['\"]?([^\]'\"]+)['\"]?\]", r".\1", path)
    return path.removeprefix("_export_root.").removesuffix("_export_root").strip(".")


def tensors(value: Any) -> list[Value]:
    """The tensor values among an output's items, flat."""
    return [item for item in leaves(value) if isinstance(item, (fx.Node, Constant))]
