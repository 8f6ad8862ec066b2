"""Walks an ONNX graph node by node and appends what each becomes (operators/) to the recorder's graph."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import GraphProto, NodeProto, TensorProto
from torch import fx

from mpcc.errors import CaptureError, ModelFileError, MpccError, UnsupportedOperator

from ..fixed import Fixed, value_of
from ..limits import DEFAULT, HINT, Limits
from .attributes import refuse_unasked
from .bodies import body_of, has_body
from .check import check_operators, versions
from .names import is_checkpoint_name, layers, own_layer, parameter_name
from .numbers import written_down
from .op import Op, describe
from .operators import LISTS, OPERATORS, domain_of
from .read import Model
from .recorder import Recorder, Value
from .settle import settle
from .shapes import Input

# A one-element float is a number (a scale, an epsilon), unless it was trained: its name or its digits say so.
LEARNED = re.compile(r"\.(\w*scale|weight|bias|gamma\w*|beta|alpha|temperature|tau)$")
HALVES: dict[int, torch.dtype] = {TensorProto.FLOAT16: torch.float16, TensorProto.BFLOAT16: torch.bfloat16}
# A shared initialiser below this size gets a copy under each name that the checkpoint had for it.
SMALL = 65536


@dataclass
class Scope:
    """The values of a graph by name, and its initialisers until someone reads them; branches see the graph around."""

    values: dict[str, Any]
    stored: dict[str, TensorProto]
    around: Scope | None = None

    def find(self, name: str, load: Callable[[TensorProto, str], Value]) -> Any:
        if name in self.values:
            return self.values[name]
        if name in self.stored:
            self.values[name] = load(self.stored[name], name)
            return self.values[name]
        assert self.around is not None, name  # the checker has seen that every name is given
        return self.around.find(name, load)

    def stored_type(self, name: str) -> int:
        """The ONNX type of an initialiser, 0 for other names."""
        if name in self.stored:
            return int(self.stored[name].data_type)
        return 0 if self.around is None else self.around.stored_type(name)


class Importer:
    """One model on its way to a GraphModule."""

    def __init__(self, model: Model, limits: Limits = DEFAULT) -> None:
        self.model = model
        self.limits = limits
        self.nodes_left = limits.nodes
        self.recorder = Recorder()
        self.opsets = versions(model.proto)
        self.made_up: set[str] = set()
        self.not_numbers: list[str] = []

    def run(self, given: Sequence[Input], fixed: Fixed) -> fx.GraphModule:
        graph = self.model.proto.graph
        inputs: dict[str, Value] = {}
        for one in given:
            if one.name in fixed:
                inputs[one.name] = value_of(one.name, fixed, one.shape, one.dtype)
            else:
                inputs[one.name] = self.recorder.placeholder(one.name, one.shape, one.dtype)
        results = self.run_nodes(graph, inputs, None, layers(graph))
        if self.not_numbers:
            some = ", ".join(self.not_numbers[:5]) + (" ..." if len(self.not_numbers) > 5 else "")
            raise ModelFileError(f"{len(self.not_numbers)} weights hold NaN: {some}", where=self.model.name)
        if not all(isinstance(result, (torch.Tensor, fx.Node)) for result in results):
            raise CaptureError("an output of the model is a list of tensors", where=self.model.name)
        nodes = tuple(self.recorder.lift(result) for result in results)
        self.recorder.graph.output(nodes if len(nodes) > 1 else nodes[0])
        settle(self.recorder, self.made_up, from_torch=self.model.proto.producer_name == "pytorch")
        return self.recorder.finish()

    def run_nodes(
        self, graph: GraphProto, inputs: Mapping[str, Any], around: Scope | None, layer_names: Sequence[str]
    ) -> list[Any]:
        """The values of the graph's outputs."""
        scope = Scope({**inputs}, {tensor.name: tensor for tensor in graph.initializer}, around)
        for node, layer in zip(graph.node, layer_names, strict=True):
            self.recorder.layer = layer
            self.run_node(node, scope)
        return [scope.find(info.name, self.weight) for info in graph.output]

    def run_node(self, node: NodeProto, scope: Scope) -> None:
        self.nodes_left -= 1  # the rounds of a loop count: they are spelt out
        if self.nodes_left < 0 or len(self.recorder.graph.nodes) > self.limits.nodes:
            what = f"with its loops and operators spelt out the graph has more than {self.limits.nodes:,} nodes"
            raise ModelFileError(what, where=describe(node, self.recorder.layer), hint=HINT)
        inputs = [scope.find(name, self.weight) if name else None for name in node.input]
        key = (domain_of(node), node.op_type)
        version = self.opsets.get(key[0], 1)
        if key not in OPERATORS:
            self.run_body(node, version, inputs, scope)
            return
        if key == ("", "Identity"):
            scope.values[node.output[0]] = self.named(node, inputs[0])
            return

        def run_branch(graph: GraphProto, bound: dict[str, Any]) -> list[Any]:
            check_operators(list(graph.node), self.opsets, self.model.name)
            inner = [own_layer(item) or layer for item in graph.node]
            results = self.run_nodes(graph, bound, scope, inner)
            self.recorder.layer = layer
            return results

        layer = self.recorder.layer

        def read_constant(stored: TensorProto) -> Value:
            return self.weight(stored, node.output[0])

        def make_weight(tensor: torch.Tensor) -> Value:
            return self.parameter(tensor, node.output[0])

        def stored_type(place: int) -> int:
            return scope.stored_type(node.input[place])

        op = Op(node, version, self.recorder, read_constant, run_branch, make_weight, stored_type, self.nodes_left)
        try:
            result = self.apply(op, OPERATORS[key], inputs)
            refuse_unasked(op)
        except UnsupportedOperator:
            if not has_body(node, version):
                raise
            self.run_body(node, version, inputs, scope)
            return
        outputs = result if isinstance(result, tuple) and key not in LISTS else (result,)
        scope.values.update({name: value for name, value in zip(node.output, outputs, strict=False) if name})

    def run_body(self, node: NodeProto, version: int, inputs: Sequence[Any], scope: Scope) -> None:
        """A node by ONNX's own definition of its operator."""
        body = body_of(node, version, inputs)
        assert body is not None, node.op_type  # `check_operators` has refused the others
        outside, layer = self.opsets, self.recorder.layer
        self.opsets = {**outside, **body.opsets}
        check_operators(list(body.graph.node), self.opsets, self.model.name)
        values = dict(zip(body.inputs, [*inputs, *[None] * len(body.inputs)], strict=False))
        results = self.run_nodes(body.graph, values, None, [layer] * len(body.graph.node))
        self.opsets, self.recorder.layer = outside, layer
        scope.values.update(zip([name for name in node.output if name], results, strict=True))

    def apply(self, op: Op, handler: Any, inputs: Sequence[Any]) -> Any:
        try:
            return handler(op, *inputs)
        except MpccError as error:
            if error.where is None:
                raise type(error)(error.what, where=op.where, hint=error.hint) from None
            raise
        except (TypeError, AttributeError):
            if _fits(handler, op, inputs) and None not in inputs:
                raise
            op.refuse(f"mpcc does not know a form of it with {len(inputs)} inputs")
        except (RuntimeError, LookupError, ValueError, ArithmeticError) as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise CaptureError(
                f"{op.kind} does not fit its inputs: {why}",
                where=op.where,
                hint="the file may be made for another input shape: give the shape that it was exported with",
            ) from error

    def weight(self, stored: TensorProto, name: str) -> Value:
        """A parameter if it is a float tensor with several elements or a trained number, else a known tensor."""
        return self.parameter(self.model.tensor(stored), name, HALVES.get(stored.data_type, torch.float32))

    def parameter(self, tensor: torch.Tensor, name: str, stored: torch.dtype = torch.float32) -> Value:
        if not tensor.is_floating_point():
            return tensor
        if _has_nan(tensor):
            self.not_numbers.append(name)
        if not tensor.numel() or (tensor.numel() == 1 and not _trained(name, float(tensor), stored)):
            return tensor
        kept = parameter_name(name)
        node = self.recorder.stored_node(kept or f"made up: {name}", tensor, trainable=True)
        if kept is None:
            self.made_up.add(str(node.target))
        return node

    def named(self, node: NodeProto, value: Any) -> Any:
        """What Identity gives: exporters write it for weights that are equal, under the names of the checkpoint."""
        name = node.output[0]
        if not isinstance(value, fx.Node) or value.op != "get_attr" or not is_checkpoint_name(name):
            return value
        tensor = self.recorder.stored[str(value.target)]
        if tensor.numel() > SMALL or "." not in name:
            return value
        return self.recorder.stored_node(name, tensor.clone(), trainable=True)


def _fits(handler: Callable[..., Any], op: Op, inputs: Sequence[Any]) -> bool:
    try:
        inspect.signature(handler).bind(op, *inputs)
    except TypeError:
        return False
    return True


def _trained(name: str, value: float, stored: torch.dtype) -> bool:
    """Whether a single number is a weight, which must not become public."""
    return LEARNED.search(name) is not None or not written_down(value, stored)


def _has_nan(tensor: torch.Tensor) -> bool:
    """The sum is a number unless a NaN is in it, or infinities: only then a second look is needed."""
    return bool(tensor.numel()) and not bool(tensor.sum().isfinite()) and bool(tensor.isnan().any())
