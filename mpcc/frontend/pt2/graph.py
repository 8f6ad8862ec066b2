"""The graph of a .pt2 file: its JSON, node by node, into an fx graph of operators from a closed table.

A target is looked up, never evaluated: ATen and prims overloads without text arguments but the known ones, a few of
Python's arithmetic on sizes, and the regions that `Walk` knows. All names are mapped by mpcc.ir.names.
Source of the format: pytorch: torch/_export/serde/schema.py.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mpcc.errors import CaptureError, ModelFileError, ShapeError, UnsupportedOperator
from mpcc.ir.names import identifier, register

from ..canonical.builder import IDENTITIES, VIEWS
from ..canonical.mutation import CHECKS
from ..canonical.rules import RULES
from ..limits import HINT
from .archive import DTYPES, Archive

# What sizes are computed with.
SCALARS: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in "add sub mul floordiv truediv mod neg pow eq ne lt le gt ge and_ or_ not_ getitem".split()
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
    **{f"torch.{name}": getattr(torch, name) for name in ("sym_float", "sym_max", "sym_min", "sym_not", "sym_sum")},
}
REGIONS = {
    f"torch.ops.higher_order.{name}": getattr(torch.ops.higher_order, name)
    for name in ("wrap_with_set_grad_enabled", "wrap_with_autocast")
}
# The text arguments of ATen that choose a form of an operator. Others (a file's name) are not given.
TEXTS = {
    *("mode", "padding_mode", "rounding_mode", "equation", "reduce", "approximate", "indexing", "padding", "norm", "side"),
    *("ord", "msg", "assert_msg", "UPLO", "driver"),
}  # fmt: skip
_TARGET = re.compile(r"torch\.ops\.(aten|prims)\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)\Z", re.ASCII)
# Of ATen's inner operators, those that a graph for inference has.
_INNER = {"_softmax", "_log_softmax", "_safe_softmax", "_to_copy", "_local_scalar_dense", "_weight_norm"}
# What a program writes beside its answers: counters of batch norms, and the like.
UNANSWERED = {"buffer_mutation", "user_input_mutation", "parameter_mutation"}
MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format,
}  # fmt: skip
# Values of one list: a fold of 100,000 places is written as a tensor.
MOST_ITEMS = 1 << 16


@dataclass(frozen=True)
class Program:
    """What a file holds: the graph, whose placeholders have `meta["val"]` where shapes are static."""

    graph_module: fx.GraphModule
    inputs: tuple[str, ...]
    is_static: bool


class Uncompiled(fx.GraphModule):
    """A graph of which no Python text is written: it runs node by node, and torch.export sees each in its own layer."""

    def recompile(self) -> Any:
        """Nothing to do."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        names = [str(node.target) for node in self.graph.nodes if node.op == "placeholder"][len(args) :]
        if set(names) != set(kwargs):
            raise ShapeError(f"its inputs are {', '.join(names)}; given were {', '.join(kwargs) or 'none'}")
        with fx.traceback.preserve_node_meta():
            return fx.Interpreter(self).run(*args, *(kwargs[name] for name in names))


def read_graph(archive: Archive) -> Program:
    """The program of an archive. ModelFileError where the JSON is not as it should be, UnsupportedOperator."""
    found = archive.program()
    try:
        major = found["schema_version"]["major"]
        if major != 8:
            raise ModelFileError(f"its format has version {major}; mpcc reads 8", hint="Save it again with torch 2.9 or later.")
        holder = found["graph_module"]
        return _Reader(archive).program(holder["graph"], holder["signature"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise ModelFileError(f"its graph is not well formed ({type(error).__name__}: {str(error)[:100]})") from None


class _Reader:
    """One program; `values` are those of the graph that is being read, by name."""

    def __init__(self, archive: Archive) -> None:
        self.stored = archive.tensors()
        self.root = torch.nn.Module()
        self.most = archive.limits.nodes
        self.left = self.most

    def program(self, graph: dict[str, Any], signature: dict[str, Any]) -> Program:
        made, values, inputs, static = fx.Graph(), dict[str, Any](), list[str](), True
        for argument, spec in zip(graph["inputs"], signature["input_specs"], strict=True):
            ((kind, detail),) = spec.items()
            name = _name(argument)
            if kind == "user_input":
                node, is_static = self._placeholder(made, name, graph["tensor_values"])
                inputs.append(str(node.target))
                values[name], static = node, static and is_static
            else:
                values[name] = self._stored(made, kind, detail)
        self._nodes(made, graph["nodes"], values)
        outputs = []
        for item, spec in zip(graph["outputs"], signature["output_specs"], strict=True):
            ((kind, _),) = spec.items()
            if kind == "user_output":
                outputs.append(self._value(item, values))
            elif kind not in UNANSWERED:
                raise ModelFileError(f"the model has an output of the kind {kind[:40]!r}, which mpcc does not read")
        if not outputs:
            raise ModelFileError("the model has no output")
        made.output(tuple(outputs))
        return Program(Uncompiled(self.root, made), tuple(inputs), static)

    def _placeholder(self, made: fx.Graph, name: str, metas: dict[str, Any]) -> tuple[fx.Node, bool]:
        node = made.placeholder(identifier(name, "input"))
        meta = metas.get(name)
        if meta is None:
            raise ModelFileError(f"the input {name!r} is not a tensor")
        sizes = [size.get("as_int") for size in meta["sizes"]]
        if any(type(size) is not int for size in sizes):
            return node, False
        node.meta["val"] = torch.empty(sizes, dtype=DTYPES[meta["dtype"]], device="meta")
        return node, True

    def _stored(self, made: fx.Graph, kind: str, detail: dict[str, Any]) -> Any:
        if kind == "constant_input":
            return next(iter(detail["value"].values()))
        key = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}.get(kind)
        if key is None:
            raise ModelFileError(f"the model has an input of the kind {kind!r}, which mpcc does not read")
        name = str(detail[key])
        if name not in self.stored:
            raise ModelFileError(f"the weight {name!r} is missing")
        tensor = self.stored[name]
        target = register(self.root, name, tensor.detach(), trainable=isinstance(tensor, torch.nn.Parameter))
        return made.get_attr(target)

    def _nodes(self, made: fx.Graph, nodes: list[dict[str, Any]], values: dict[str, Any]) -> None:
        foreign = sorted({str(node["target"]) for node in nodes if not _is_known(str(node["target"]))})
        if foreign:
            raise UnsupportedOperator(
                "operators that a .pt2 file may not hold here:\n    " + "\n    ".join(name[:120] for name in foreign[:20]),
                hint="Export the model itself, or give the torch.nn.Module to mpcc.capture.",
            )
        for node in nodes:
            self.left -= 1
            if self.left < 0:
                raise ModelFileError(f"the graph has more than {self.most:,} nodes", hint=HINT)
            self._node(made, node, values)

    def _node(self, made: fx.Graph, node: dict[str, Any], values: dict[str, Any]) -> None:
        target = _operator(str(node["target"]))
        args, kwargs = [], {}
        for given in node["inputs"]:
            value = self._value(given["arg"], values)
            if given.get("kind") == 2 and given["name"]:
                kwargs[str(given["name"])] = value
            else:
                args.append(value)
        if isinstance(target, torch._ops.OpOverload):
            _check_arguments(target, args, kwargs)
        call = made.call_function(target, tuple(args), kwargs)
        call.meta["nn_module_stack"] = _module_stack(node.get("metadata", {}).get("nn_module_stack", ""))
        self._bind(made, call, node["outputs"], values, is_list=_gives_list(target, node))

    def _bind(self, made: fx.Graph, call: fx.Node, outputs: Any, values: dict[str, Any], is_list: bool) -> None:
        names = list(_names(outputs))
        if not is_list and len(names) == 1:
            values[names[0]] = call
            return
        for place, name in enumerate(names):
            if name:
                values[name] = made.call_function(operator.getitem, (call, place))
                values[name].meta["nn_module_stack"] = call.meta["nn_module_stack"]

    def _value(self, argument: dict[str, Any], values: dict[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind in ("as_int", "as_float", "as_bool", "as_string"):
            return _scalar(value)
        if kind == "as_none":
            return None
        if kind in ("as_ints", "as_floats", "as_bools"):
            return [_scalar(item) for item in _short(value)]
        if kind in ("as_tensor", "as_optional_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
            return self._reference(value, values)
        if kind in ("as_tensors", "as_optional_tensors", "as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return [self._reference(item, values) for item in _short(value)]
        if kind == "as_scalar_type":
            return DTYPES[value]
        if kind == "as_device":
            return torch.device("cpu")
        if kind == "as_memory_format":
            return MEMORY_FORMATS[value]
        if kind == "as_layout" and value == 7:
            return torch.strided
        if kind == "as_complex":
            return complex(_scalar(value["real"]), _scalar(value["imag"]))
        if kind == "as_graph":
            return self._nested(value["graph"])
        raise ModelFileError(f"an argument of the kind {str(kind)[:40]!r} is not read")

    def _reference(self, item: dict[str, Any], values: dict[str, Any]) -> Any:
        if "as_tensor" in item:
            item = item["as_tensor"]
        if "as_none" in item:
            return None
        for kind in ("as_int", "as_float", "as_bool"):
            if kind in item:
                return _scalar(item[kind])
        name = item["name"] if "name" in item else item["as_name"]
        if name not in values:
            raise ModelFileError(f"a value {str(name)[:100]!r} is read before it is made")
        return values[name]

    def _nested(self, graph: dict[str, Any]) -> fx.GraphModule:
        made, values = fx.Graph(), dict[str, Any]()
        for argument in graph["inputs"]:
            values[_name(argument)] = made.placeholder(identifier(_name(argument), "input"))
        self._nodes(made, graph["nodes"], values)
        made.output(tuple(self._value(item, values) for item in graph["outputs"]))
        return Uncompiled(torch.nn.Module(), made)


def _operator(target: str) -> Any:
    if target in SCALARS:
        return SCALARS[target]
    if target in REGIONS:
        return REGIONS[target]
    match = _TARGET.match(target)
    if match is None:
        return None
    space, name, overload = match.groups()
    if name.startswith("__") or name.startswith("_") and not _is_inner(name):
        return None
    found = getattr(getattr(getattr(torch.ops, space), name, None), overload, None)
    return found if isinstance(found, torch._ops.OpOverload) and _is_harmless(found) else None


def _is_inner(name: str) -> bool:
    ruled = name in {str(key._schema.name).removeprefix("aten::") for key in RULES if hasattr(key, "_schema")}
    return ruled or name in _INNER or name in VIEWS or name in IDENTITIES or name.startswith(CHECKS)


def _is_harmless(overload: torch._ops.OpOverload) -> bool:
    """Whether all that a call can do is to compute: no files, no types that a graph for inference has not."""
    schema = overload._schema
    texts = [argument.name for argument in schema.arguments if "str" in str(argument.type)]
    odd = any(word in str(argument.type) for argument in schema.arguments for word in ("Storage", "Stream", "QScheme"))
    return set(texts) <= TEXTS and not odd


def _is_known(target: str) -> bool:
    return _operator(target) is not None


def _check_arguments(target: torch._ops.OpOverload, args: list[Any], kwargs: dict[str, Any]) -> None:
    known = [argument.name for argument in target._schema.arguments]
    if any(name not in known for name in kwargs) or len(args) > len(known):
        raise CaptureError(f"{target} does not take {len(args)} arguments and {', '.join(kwargs)[:200]}")


def _gives_list(target: Any, node: dict[str, Any]) -> bool:
    if target in REGIONS.values():
        return not node.get("is_hop_single_tensor_return")
    if not isinstance(target, torch._ops.OpOverload):
        return False
    returns = target._schema.returns
    return len(returns) > 1 or (len(returns) == 1 and "List" in str(returns[0].type))


def _names(outputs: list[dict[str, Any]]) -> Iterator[str]:
    for output in outputs:
        ((kind, value),) = output.items()
        if kind == "as_none":
            yield ""
        elif isinstance(value, list):
            yield from (_item_name(item) for item in value)
        else:
            yield _item_name(value)


def _item_name(item: dict[str, Any]) -> str:
    item = item.get("as_tensor", item)
    return str(item["name"] if "name" in item else item.get("as_name", ""))


def _name(argument: dict[str, Any]) -> str:
    ((_, value),) = argument.items()
    return _item_name(value)


def _scalar(value: Any) -> Any:
    """Floats beyond JSON are written as text."""
    if value in ("Infinity", "-Infinity", "NaN"):
        return float(value)
    if type(value) not in (int, float, bool, str):
        raise ModelFileError(f"{str(value)[:100]!r} is neither a number nor a text")
    return value


def _short(items: Any) -> list[Any]:
    if not isinstance(items, list) or len(items) > MOST_ITEMS:
        raise ModelFileError("a list of arguments is too long")
    return items


def _module_stack(text: str) -> dict[str, tuple[str, str]]:
    """`key,path,class;key,path,class` as the exporter's dictionary."""
    stack = {}
    for entry in str(text)[: 1 << 14].split(";"):
        parts = entry.split(",")
        if len(parts) >= 3:
            stack[parts[0]] = (parts[1], parts[-1])
    return stack
