"""Weights in the form in which torch keeps them: matrices as [out, in], biases inside of `linear`, telling names.

1. add(linear(x, w), b)                       -> linear(x, w, b)
2. a weight that is only read through one view (a transpose, a reshape) -> the weight is stored so, without a copy,
   unless torch's exporter kept its name: then it has the checkpoint's shape
3. a made-up name (onnx::MatMul_1098)         -> its reader's layer and role: blocks.0.attn.qkv.weight
"""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from mpcc.ir.names import free_name, safe_path

from .op import is_call, shape_of
from .recorder import Recorder, aten

ROLES: dict[Any, dict[int, str]] = {
    aten.linear.default: {1: "weight", 2: "bias"},
    aten.convolution.default: {1: "weight", 2: "bias"},
    aten.layer_norm.default: {2: "weight", 3: "bias"},
    aten.group_norm.default: {2: "weight", 3: "bias"},
    aten.rms_norm.default: {2: "weight"},
    aten.batch_norm.default: {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    aten.embedding.default: {0: "weight"},
    aten.mul.Tensor: {0: "scale", 1: "scale"},
    aten.add.Tensor: {0: "bias", 1: "bias"},
    aten.matmul.default: {0: "weight", 1: "weight"},
}


def settle(recorder: Recorder, made_up: set[str], *, from_torch: bool) -> None:
    """Rewrite the recorded graph in place; `made_up` are the stored names that no checkpoint has."""
    recorder.graph.eliminate_dead_code()
    for node in list(recorder.graph.nodes):
        if is_call(node, aten.add.Tensor):
            _absorb_bias(recorder, node, made_up)
    for node in list(recorder.graph.nodes):
        if node.op == "get_attr" and (node.target in made_up or not from_torch):
            _absorb_view(recorder, node)
    _rename(recorder, made_up)


def _absorb_bias(recorder: Recorder, node: fx.Node, made_up: set[str]) -> None:
    for product, bias in (node.args[:2], node.args[1::-1]):
        if not is_call(product, aten.linear.default) or not isinstance(bias, fx.Node) or bias.op != "get_attr":
            continue
        assert isinstance(product, fx.Node)
        width = shape_of(product)[-1]
        if len(product.args) > 2 or len(product.users) > 1 or shape_of(bias)[-1:] != (width,):
            continue
        if math.prod(shape_of(bias)) != width or len(shape_of(bias)) > len(shape_of(product)):
            continue
        next(iter(recorder.graph.nodes)).prepend(bias)
        with recorder.graph.inserting_before(product):
            flat = _flat(recorder, bias, width)
        product.args = (*product.args, flat)
        product.meta["layer"] = _layer(product, node, bias, made_up)
        node.replace_all_uses_with(product)
        recorder.graph.erase_node(node)
        return


def _layer(product: fx.Node, addition: fx.Node, bias: fx.Node, made_up: set[str]) -> str:
    """The bias says it best where the file has its name: a nameless product was placed by its neighbours only."""
    parent = str(bias.target).rpartition(".")[0]
    if parent and bias.target not in made_up and set(bias.users) <= {product, addition}:
        return parent
    return str(product.meta["layer"] or addition.meta["layer"])


def _flat(recorder: Recorder, bias: fx.Node, width: int) -> fx.Node:
    if shape_of(bias) == (width,):
        return bias
    node = recorder.graph.call_function(aten.reshape.default, (bias, [width]))
    node.meta.update(val=bias.meta["val"].reshape(width), layer=bias.meta["layer"])
    return node


def _absorb_view(recorder: Recorder, node: fx.Node) -> None:
    """Store what all readers read, if they read the same view."""
    readers = list(node.users)
    if not readers or not all(is_call(reader, aten.permute.default, aten.reshape.default) for reader in readers):
        return
    first = readers[0]
    if any((reader.target, reader.args[1:]) != (first.target, first.args[1:]) for reader in readers):
        return
    name = str(node.target)
    stored = recorder.stored[name]
    assert callable(first.target)
    recorder.stored[name] = first.target(stored, *first.args[1:])
    node.meta["val"] = first.meta["val"]
    for reader in readers:
        reader.replace_all_uses_with(node)
        recorder.graph.erase_node(reader)
    _absorb_view(recorder, node)


def _rename(recorder: Recorder, made_up: set[str]) -> None:
    taken = set(recorder.stored) - made_up
    for node in recorder.graph.nodes:
        name = str(node.target)
        if node.op != "get_attr" or name not in made_up or not node.users:
            continue
        new = free_name(safe_path(_name(node)), taken.__contains__)
        taken.add(new)
        recorder.stored[new] = recorder.stored.pop(name)
        if name in recorder.buffers:
            recorder.buffers.add(new)
        node.target = new


def _name(node: fx.Node) -> str:
    reader = next(iter(node.users))
    role = ROLES.get(reader.target, {}).get(reader.args.index(node) if node in reader.args else -1, "constant")
    layer = reader.meta.get("layer", "")
    return f"{layer}.{role}" if layer else role
