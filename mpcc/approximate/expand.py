"""nn graph + plan -> mpc graph: every site by its chosen approximation, every other operator by the table below.

Each node of the result carries `layer`, `site` (the site that it came from, or None), `made_by`, and for a part of a
split site `part` (its positions).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from mpcc.errors import PlanError, UnsupportedOperator
from mpcc.ir import mpc
from mpcc.ir.nn import is_site, target_name
from mpcc.ir.public_mask import part_of
from mpcc.ir.site_ends import mark_result
from mpcc.ir.trace import Recorder

from .approximation import Approximation
from .blocks import RowMask
from .masks import mask_at, takes_mask
from .options import check_options
from .plan import Choice, Plan, Split
from .split import bind, split_dim, split_function

aten = torch.ops.aten


def expand(graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation]) -> fx.GraphModule:
    """The mpc-level graph of an nn-level graph under a plan. Parameters are shared with the source, not copied."""
    check_sites(graph_module, plan)
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    missing: list[str] = []
    hidden = {mask.add: mask for node in graph_module.graph.nodes if (mask := mask_at(node)) is not None}
    for node in graph_module.graph.nodes:
        if node.op == "output":
            graph.output(fx.node.map_arg(node.args[0], lambda n: env[n]))
            continue
        if node.op in ("placeholder", "get_attr"):
            env[node] = graph.node_copy(node)
            continue
        if (mask := hidden.get(node)) is not None:  # its exponentials will be dropped
            env[node] = env[mask.logits]
            continue
        recorder = Recorder(graph, _provenance(node, plan))
        function = _function(node, plan, approximations)
        if function is None:
            missing.append(f"{node.target} at {node.name} (layer {node.meta.get('layer', '?')})")
            continue
        if not missing:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: env[n])
            env[node] = made = recorder.call(function, *args, **kwargs)
            if is_site(node) and isinstance(made, fx.Node) and made.meta.get("site") == node.meta["site"]:
                mark_result(made, node.meta["site"])
    if missing:
        raise UnsupportedOperator(
            f"{len(missing)} operator(s) have no secure form: " + "; ".join(missing),
            hint="`mpcc passes` lists the operators that can be replaced.",
        )
    graph.lint()
    return fx.GraphModule(graph_module, graph)


def _provenance(node: fx.Node, plan: Plan) -> dict[str, Any]:
    site = node.meta.get("site")
    made_by = tuple(node.meta.get("made_by", ()))
    choice = plan.choices.get(site) if site else None
    return {
        "layer": node.meta.get("layer", ""),
        "site": site,
        "made_by": (*made_by, choice.approximation) if isinstance(choice, Choice) else made_by,
    }


def check_sites(graph_module: fx.GraphModule, plan: Plan) -> None:
    """PlanError unless the plan has a choice for every site of the graph, and for nothing else."""
    known = [node.meta["site"] for node in graph_module.graph.nodes if is_site(node)]
    for name in plan.choices:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]}?" if near else "`mpcc profile` lists the sites of a model."
            raise PlanError("the model has no such site", where=f"site {name}", hint=hint)
    missing = [name for name in known if name not in plan.choices]
    if missing:
        raise PlanError(
            f"the plan has no choice for {len(missing)} site(s): " + ", ".join(missing),
            hint="`mpcc optimize` writes a plan with all of them, to be edited.",
        )


def _function(node: fx.Node, plan: Plan, approximations: Mapping[str, Approximation]) -> Callable[..., Any] | None:
    """What `node` becomes: a function of its own arguments over the primitives."""
    site = node.meta.get("site")
    if site is None or node.target in LOCAL:
        return LOCAL.get(node.target)
    return site_function(node, plan.choices[site], approximations)


def site_function(
    node: fx.Node, choice: Choice | Split, approximations: Mapping[str, Approximation]
) -> Callable[..., Any]:
    """What a site becomes under a choice: a function of the operator's own arguments. A softmax keeps its mask."""
    found = mask_at(node)
    return _masked_function(node, choice, approximations, (found.shape, found.bits) if found else None)


def _masked_function(
    node: fx.Node,
    choice: Choice | Split,
    approximations: Mapping[str, Approximation],
    mask: RowMask | None,
) -> Callable[..., Any]:
    if isinstance(choice, Split):
        dim = split_dim(node, choice)
        masks = [part_of(*mask, dim, part.index) if mask else None for part in choice.parts]
        choices = zip(choice.choices, masks, strict=True)
        return split_function(node, choice, [_masked_function(node, part, approximations, own) for part, own in choices])
    site = node.meta.get("site")
    approximation = approximations.get(choice.approximation)
    if approximation is None:
        raise PlanError(f"approximation {choice.approximation!r} does not exist", where=f"site {site}", hint="See `mpcc passes`.")
    name = target_name(node)
    if approximation.operator != name:
        raise PlanError(f"{approximation.name} replaces {approximation.operator}, not {name}", where=f"site {site}")
    attributes = ATTRIBUTES.get(name, ())
    if mask and not takes_mask(approximation):
        raise PlanError(f"{approximation.name} has no form for masked rows", where=f"site {site}")
    check_options(approximation, choice.options, str(site))
    masked = {"mask": mask} if mask else {}

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = bind(node.target, args, kwargs)
        tensors = [v for k, v in bound.items() if k not in attributes and k not in IGNORED]
        named = {k: bound[k] for k in attributes if k in bound}
        try:
            return approximation.function(*tensors, **named, **masked, **choice.options)
        except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
            raise PlanError(f"the options of {approximation.name} do not fit: {error}", where=f"site {site}") from error

    return call


ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "softmax": ("dim",),
    "gelu": (),
    "layer_norm": ("normalized_shape", "eps"),
    "rms_norm": ("normalized_shape", "eps"),
    "group_norm": ("num_groups", "eps"),
    "amax": ("dim", "keepdim"),
    "max_pool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "clamp": ("min", "max"),
    "leaky_relu": ("negative_slope",),
    "step": ("strict",),
    "elu": ("alpha", "scale", "input_scale"),
    "softplus": ("beta", "threshold"),
    "hardtanh": ("min_val", "max_val"),
    "linalg_vector_norm": ("ord", "dim", "keepdim"),
}
"""Per operator, the arguments that are not tensors and that its approximations get by name."""

IGNORED = frozenset({"dtype", "cudnn_enable", "cudnn_enabled", "approximate"})


def _product(x: Any, y: Any) -> Any:
    if isinstance(y, (int, float)):
        return mpc.scale(x, float(y))
    return mpc.scale(y, float(x)) if isinstance(x, (int, float)) else mpc.mul(x, y)


def _sum(x: Any, y: Any) -> Any:
    return mpc.add(y, float(x)) if isinstance(x, (int, float)) else mpc.add(x, y)


def _difference(x: Any, y: Any) -> Any:
    return mpc.add(mpc.neg(y), float(x)) if isinstance(x, (int, float)) else mpc.sub(x, y)


def _power(x: Any, exponent: Any) -> Any:
    if exponent == 1:
        return x
    if exponent == 2:
        return mpc.square(x)
    if exponent in (3, 4):
        return mpc.polynomial(x, tuple([0.0] * int(exponent) + [1.0]))
    raise UnsupportedOperator(f"pow with exponent {exponent} has no secure form")


def _divide(x: Any, y: Any) -> Any:
    if isinstance(y, (int, float)):
        return mpc.scale(x, 1.0 / y)
    raise UnsupportedOperator("a division by a secret tensor must be written as a product with `reciprocal` (a site)")


def _convolution(x: Any, w: Any, b: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, _: Any, groups: int) -> Any:
    if transposed:
        raise UnsupportedOperator("a transposed convolution has no secure form")
    return mpc.conv(x, w, b, tuple(stride), tuple(padding), tuple(dilation), groups)


def _mean(x: Any, dims: Any, keepdim: bool = False) -> Any:
    return mpc.mean(x, _dims(x, dims), keepdim)


def _total(x: Any, dims: Any, keepdim: bool = False) -> Any:
    return mpc.sum(x, _dims(x, dims), keepdim)


def _dims(x: Any, dims: Any) -> tuple[int, ...]:
    return tuple(range(len(x.shape))) if not dims else tuple(dims)


def _avg_pool2d(
    x: Any, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False, count_pad: bool = True, divisor: Any = None
) -> Any:
    """A sum of strided slices and a free scale."""
    (kh, kw), (ph, pw) = _pair(kernel), _pair(padding)
    sh, sw = _pair(stride) if stride else (kh, kw)
    if ceil or ((ph or pw) and not count_pad):
        raise UnsupportedOperator("avg_pool2d with ceil_mode, or with padding that is not counted, has no secure form")
    if ph or pw:
        x = aten.constant_pad_nd.default(x, [pw, pw, ph, ph], 0.0)
    total = None
    for window in windows(x, (kh, kw), (sh, sw)):
        total = window if total is None else mpc.add(total, window)
    return mpc.scale(total, 1.0 / (divisor or kh * kw))


def _constant_pad(x: Any, pads: Any, fill: float = 0.0) -> Any:
    """Zeros are free; another number is what x is shifted by meanwhile."""
    if math.isinf(fill):
        raise UnsupportedOperator("padding with infinity has no secure form, except before a max pool")
    made = aten.constant_pad_nd.default(mpc.add(x, -float(fill)) if fill else x, pads, 0.0)
    return mpc.add(made, float(fill)) if fill else made


def windows(x: Any, kernel: tuple[int, int], stride: tuple[int, int]) -> list[Any]:
    """The strided slices of x [..., height, width] whose elementwise reduction is a pooling, one per kernel position."""
    height, width = x.shape[-2], x.shape[-1]
    rows, columns = (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1
    slices, rank = [], len(x.shape)
    for i in range(kernel[0]):
        row = aten.slice.Tensor(x, rank - 2, i, i + (rows - 1) * stride[0] + 1, stride[0])
        slices += [aten.slice.Tensor(row, rank - 1, j, j + (columns - 1) * stride[1] + 1, stride[1]) for j in range(kernel[1])]
    return slices


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


LOCAL: dict[Any, Callable[..., Any]] = {
    aten.linear.default: mpc.linear,
    aten.matmul.default: mpc.matmul,
    aten.convolution.default: _convolution,
    aten.add.Tensor: _sum,
    aten.sub.Tensor: _difference,
    aten.mul.Tensor: _product,
    aten.div.Tensor: _divide,
    aten.neg.default: mpc.neg,
    aten.pow.Tensor_Scalar: _power,
    aten.sum.dim_IntList: _total,
    aten.mean.dim: _mean,
    aten.avg_pool2d.default: _avg_pool2d,
    **{view: view for view in mpc.VIEWS},
    aten.constant_pad_nd.default: _constant_pad,
}
"""Operators without a choice: how each is written over the primitives."""

