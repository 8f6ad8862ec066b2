"""The nn level: canonical ATen operators over float tensors, what a valid graph is, and access to shapes and sites.

Front ends make it, passes rewrite it, expansion lowers it to the mpc level. The rules are in `docs/architecture.md`;
`OPERATORS` is the table, `verify` the judge.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

from mpcc.errors import InvalidGraph

from .names import free_name
from .step import STEP

aten = torch.ops.aten

MADE_OF, PUBLIC = "made_of", "public"
"""Metadata of a `get_attr` node: the model's own tensors whose values are in what it reads (None: unknown), and whether its
owner made it public (absent: no)."""

Kind = Literal["product", "site", "arithmetic", "view"]


@dataclass(frozen=True)
class Operator:
    """A canonical operator: its short name (the last part of a site's name) and what it costs in kind."""

    name: str
    kind: Kind


PRODUCTS = (aten.linear.default, aten.matmul.default, aten.convolution.default)

SITES: dict[str, Any] = {
    "softmax": aten.softmax.int,
    "gelu": aten.gelu.default,
    "layer_norm": aten.layer_norm.default,
    "rms_norm": aten.rms_norm.default,
    "group_norm": aten.group_norm.default,
    "relu": aten.relu.default,
    "silu": aten.silu.default,
    "hardswish": aten.hardswish.default,
    "hardsigmoid": aten.hardsigmoid.default,
    "sigmoid": aten.sigmoid.default,
    "tanh": aten.tanh.default,
    "exp": aten.exp.default,
    "log": aten.log.default,
    "reciprocal": aten.reciprocal.default,
    "sqrt": aten.sqrt.default,
    "rsqrt": aten.rsqrt.default,
    "amax": aten.amax.default,
    "max_pool2d": aten.max_pool2d.default,
    "abs": aten.abs.default,
    "clamp": aten.clamp.default,
    "maximum": aten.maximum.default,
    "minimum": aten.minimum.default,
    "leaky_relu": aten.leaky_relu.default,
    "softplus": aten.softplus.default,
    "elu": aten.elu.default,
    "mish": aten.mish.default,
    "erf": aten.erf.default,
    "step": STEP,
    "cos": aten.cos.default,
    "sin": aten.sin.default,
}

ARITHMETIC = (
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.div.Tensor,
    aten.neg.default,
    aten.pow.Tensor_Scalar,
    aten.sum.dim_IntList,
    aten.mean.dim,
    aten.avg_pool2d.default,
)

VIEWS = (
    aten.reshape.default,
    aten.permute.default,
    aten.expand.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.cat.default,
    aten.constant_pad_nd.default,
    aten.roll.default,
    aten.flip.default,
    aten.index.Tensor,
)

WHOLE_VIEWS = frozenset({aten.reshape.default, aten.permute.default, aten.expand.default, aten.flip.default, aten.roll.default})
"""Views whose result holds every element of their operand, all equally often: opening one opens the other."""


def _short(target: Any) -> str:
    return str(target._schema.name).rpartition("::")[2]


OPERATORS: dict[Any, Operator] = {
    **{target: Operator(_short(target), "product") for target in PRODUCTS},
    **{target: Operator(name, "site") for name, target in SITES.items()},
    **{target: Operator(_short(target), "arithmetic") for target in ARITHMETIC},
    **{target: Operator(_short(target), "view") for target in VIEWS},
}


def operator_of(node: fx.Node) -> Operator | None:
    """The canonical operator that `node` calls; None for inputs, parameters, the output and foreign operators."""
    return OPERATORS.get(node.target) if node.op == "call_function" else None


def is_site(node: fx.Node) -> bool:
    """Whether `node` is a non-linear operator, that is a place where an approximation is chosen."""
    operator = operator_of(node)
    return operator is not None and operator.kind == "site"


def sites(graph_module: fx.GraphModule) -> dict[str, fx.Node]:
    """The sites of a graph by name, in the order of execution."""
    return {node.meta["site"]: node for node in graph_module.graph.nodes if is_site(node)}


def name_sites(graph: fx.Graph) -> None:
    """Give every site its unique name `<layer>.<operator>`; later ones of the same layer get `#2`, `#3`.

    Names that exist stay, so a pass that adds sites calls this again.
    """
    site_nodes = [node for node in graph.nodes if is_site(node)]
    taken: set[str] = set()
    for node in site_nodes:
        if node.meta.get("site") in taken:
            del node.meta["site"]
        taken.add(node.meta.get("site", ""))
    for node in site_nodes:
        if "site" not in node.meta:
            node.meta["site"] = _free_name(node, taken)
            taken.add(node.meta["site"])


def _free_name(node: fx.Node, taken: set[str]) -> str:
    layer, operator = node.meta.get("layer", ""), OPERATORS[node.target].name
    base = f"{layer}.{operator}" if layer else operator
    return free_name(base, taken.__contains__, sign="#")


def target_name(node: fx.Node) -> str:
    """`softmax` for a call of aten.softmax.int, `mul` for one of mpc.mul."""
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]


def site_operator(site: str) -> str:
    """The operator in the name of a site: `softmax` for blocks.0.attn.softmax#2."""
    return site.rsplit(".", 1)[-1].split("#")[0]


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The static shape of what `node` computes."""
    return tuple(node.meta["val"].shape)


def size_of(node: fx.Node) -> int:
    """The number of elements that `node` computes."""
    return int(node.meta["val"].numel())


def inputs_of(graph_module: fx.GraphModule) -> list[fx.Node]:
    """The placeholders, in the order in which the graph is called."""
    return [node for node in graph_module.graph.nodes if node.op == "placeholder"]


def attribute(module: torch.nn.Module, name: str) -> Any:
    """The parameter, buffer or submodule with the dotted `name`; AttributeError if there is none."""
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value


def constant_values(graph_module: fx.GraphModule) -> dict[fx.Node, torch.Tensor]:
    """What depends on parameters and buffers alone, computed: node -> value."""
    found: dict[fx.Node, torch.Tensor] = {}
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            found[node] = attribute(graph_module, str(node.target)).detach()
        elif node.op == "call_function" and node.all_input_nodes and all(one in found for one in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda one: found[one])
            with torch.no_grad():
                found[node] = node.target(*args, **kwargs)
    return found


def copy_graph(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A copy that shares neither nodes nor parameters; node metadata is copied one level deep."""
    return copy.deepcopy(graph_module)


def insert(
    graph: fx.Graph,
    target: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    like: fx.Node,
    made_by: str,
) -> fx.Node:
    """Call `target` at the insertion point: shape inferred, layer from `like`, `made_by` added to its history."""
    node = graph.call_function(target, args, kwargs or {})
    metas, named = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    node.meta.update(
        val=target(*metas, **named),
        layer=like.meta.get("layer", ""),
        made_by=(*like.meta.get("made_by", ()), made_by),
    )
    return node


def meta_tensor(value: torch.Tensor) -> torch.Tensor:
    """`value` without storage: what `node.meta["val"]` holds."""
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


# ---------------------------------------------------------------------------------------------------- the verifier


def verify(graph_module: fx.GraphModule) -> None:
    """Raise InvalidGraph, naming the node, unless `graph_module` obeys every rule of the nn level."""
    graph_module.graph.lint()
    seen: dict[str, fx.Node] = {}
    for node in graph_module.graph.nodes:
        for complaint in _complaints(graph_module, node):
            raise InvalidGraph(complaint, where=describe(node))
        if is_site(node):
            name = node.meta["site"]
            if name in seen:
                raise InvalidGraph(f"the site name {name} is already that of {seen[name].name}", where=describe(node))
            seen[name] = node


def describe(node: fx.Node) -> str:
    """How messages call a node: its name, and the user's layer."""
    layer = node.meta.get("layer")
    return f"node {node.name} in layer {layer}" if layer else f"node {node.name}"


def _complaints(graph_module: fx.GraphModule, node: fx.Node) -> Iterator[str]:
    check = _RULES.get(node.op)
    if check is None:
        yield f"{node.op} nodes do not belong to the nn level"
        return
    yield from check(graph_module, node)
    if node.op == "output":
        return
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        yield 'meta["val"] is not a tensor'
    elif any(not isinstance(size, int) for size in value.shape):
        yield f"the shape {tuple(value.shape)} is not static"


def attribute_faults(graph_module: fx.GraphModule, node: fx.Node) -> Iterator[str]:
    """What is wrong with the parameter or buffer that a `get_attr` node reads, if anything."""
    try:
        value = attribute(graph_module, str(node.target))
    except AttributeError:
        yield f"there is no parameter or buffer {node.target}"
        return
    if not isinstance(value, torch.Tensor):
        yield f"{node.target} is a {type(value).__name__}, not a tensor"


def _check_call(graph_module: fx.GraphModule, node: fx.Node) -> Iterator[str]:
    operator = operator_of(node)
    if operator is None:
        yield f"{node.target} is not an operator of the nn level"
        return
    if node.kwargs.get("alpha", 1) != 1:
        yield "alpha is never used"
    if not isinstance(node.meta.get("layer"), str):
        yield 'meta["layer"] is missing'
    if operator.kind == "site" and not isinstance(node.meta.get("site"), str):
        yield 'meta["site"] is missing'
    if node.target is aten.index.Tensor:
        yield from _check_index(node)
    if node.target is aten.convolution.default and node.args[6]:
        yield "transposed convolutions are written as plain ones"
    if node.target is aten.pow.Tensor_Scalar and not _is_small_power(node.args[1]):
        yield f"the exponent {node.args[1]} is not an integer of at least 2"


def _check_index(node: fx.Node) -> Iterator[str]:
    indices = node.args[1]
    assert isinstance(indices, (list, tuple))
    for index in indices:
        if index is not None and not (isinstance(index, fx.Node) and index.op == "get_attr"):
            yield f"the index {index} is not a constant"


def _is_small_power(exponent: Any) -> bool:
    return isinstance(exponent, int) and exponent >= 2


def _check_output(graph_module: fx.GraphModule, node: fx.Node) -> Iterator[str]:
    value = node.args[0]
    for item in value if isinstance(value, tuple) else (value,):
        if not isinstance(item, fx.Node):
            yield f"the output {item!r} is neither a tensor nor a flat tuple of tensors"


def _check_placeholder(graph_module: fx.GraphModule, node: fx.Node) -> Iterator[str]:
    if node.args:
        yield "an input has no default"


_RULES: dict[str, Callable[[fx.GraphModule, fx.Node], Iterator[str]]] = {
    "placeholder": _check_placeholder,
    "get_attr": attribute_faults,
    "call_function": _check_call,
    "output": _check_output,
}
