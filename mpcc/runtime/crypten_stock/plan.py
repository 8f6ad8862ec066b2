"""What the stock engine's parties are told: the operators in order, with public factors from a plain run.

    graph + calibration inputs -> StockProgram(steps=(Step("softmax", args=(Ref("matmul"), -1), site=...), ...), ...)

The factors bring reciprocals and inverse square roots into the range where CrypTen's start values work; a value that
no factor can rescue (exp above 16, an overflow) is a RangeError that names the site.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

from mpcc.cost.use import primitive_name, uses
from mpcc.errors import RangeError, UnsupportedOperator
from mpcc.ir import nn, nonnegative

from .operators import FUNCTIONS, SCALED, power_of_two

LARGEST = 2.0**30  # |sum| * 2^32 has to stay below 2^63
EXP = (-240.0, 16.0)  # (1 + x / 256)^256 is even: wrong below -256, over 1 % off above 16
RECIPROCAL = 8.0  # the largest denominator after scaling: right from .002 on
RSQRT = 64.0  # the largest variance after scaling: right from .1 on
MASK = -128.0  # what stands for minus infinity: exp(-128) is 0, exp(-520) would be 2637


@dataclass(frozen=True)
class Ref:
    """The value of an earlier step."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operator. `target` is set for views: the ATen operator that moves the shares."""

    name: str
    primitive: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    site: str
    layer: str
    view: str | None = None


@dataclass(frozen=True)
class StockProgram:
    """Steps, inputs and outputs by name; `secrets` are the weights (party 0's), `publics` index tensors."""

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    secrets: Mapping[str, torch.Tensor] = field(default_factory=dict)
    publics: Mapping[str, torch.Tensor] = field(default_factory=dict)


def stock_program(graph: GraphModule, calibration: Sequence[torch.Tensor]) -> StockProgram:
    """The program of a graph at the nn level. UnsupportedOperator lists all operators without a CrypTen function."""
    _check_supported(graph)
    ranges = _Ranges(graph)
    with torch.no_grad():
        ranges.run(*calibration)
    positive = nonnegative.nonnegative(graph.graph)
    sites = {use.node: use.site for use in uses(graph)}
    inputs: list[str] = []
    steps: list[Step] = []
    outputs: tuple[str, ...] = ()
    secrets: dict[str, torch.Tensor] = {}
    publics: dict[str, torch.Tensor] = {}
    for node in graph.graph.nodes:
        match node.op:
            case "placeholder":
                inputs.append(node.name)
            case "get_attr":
                tensor = nn.attribute(graph, str(node.target)).detach()
                if tensor.is_floating_point():
                    secrets[node.name] = _encodable(tensor.float(), node)
                else:
                    publics[node.name] = tensor
            case "call_function":
                steps.append(_step(node, sites.get(node.name, node.name), ranges.factor.get(node), positive))
            case "output":
                value = node.args[0]
                outputs = tuple(out.name for out in (value if isinstance(value, list | tuple) else (value,)))
    return StockProgram(tuple(inputs), tuple(steps), outputs, secrets, publics)


def _step(node: Node, site: str, factor: float | None, positive: set[Node]) -> Step:
    primitive = primitive_name(node.target)
    kwargs: dict[str, Any] = dict(node.kwargs)
    args: list[Any] = list(node.args)
    if primitive in ("div", "reciprocal"):
        kwargs["positive"] = node.args[-1] in positive
    if factor is not None:
        kwargs["factor"] = factor
    if primitive == "softmax":
        args = args[:2]
    if primitive in ("layer_norm", "group_norm"):
        args = args[:5]
    if primitive in ("sum", "mean"):
        args, kwargs = args[:3], {key: value for key, value in kwargs.items() if key == "keepdim"}
    is_view = node.target in nn.VIEWS and primitive not in FUNCTIONS
    return Step(
        name=node.name,
        primitive=primitive,
        args=tuple(_referred(args)),
        kwargs=_referred(kwargs),
        site=site,
        layer=str(node.meta.get("layer", "")),
        view=str(node.target).removeprefix("aten.") if is_view else None,
    )


def _referred(value: Any) -> Any:
    """Nodes become Refs; torch.fx's immutable containers become plain ones."""
    if isinstance(value, Node):
        return Ref(value.name)
    if isinstance(value, Mapping):
        return {key: _referred(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_referred(item) for item in value) if type(value) is tuple else [_referred(v) for v in value]
    return value


def _encodable(tensor: torch.Tensor, node: Node) -> torch.Tensor:
    """Attention masks of minus infinity become a number that CrypTen's exp takes for it."""
    return torch.where(tensor < -1e3, torch.full_like(tensor, MASK), tensor)


def _check_supported(graph: GraphModule) -> None:
    unknown = []
    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        primitive = primitive_name(node.target)
        if (primitive not in FUNCTIONS and node.target not in nn.VIEWS) or (
            primitive == "convolution" and (node.args[6] or len(node.args[3]) not in (1, 2))
        ):
            unknown.append(f"{node.target} ({nn.describe(node)})")
    if unknown:
        raise UnsupportedOperator(
            f"the stock CrypTen engine has no function for: {', '.join(unknown)}",
            hint="this engine is the baseline only; mpcc's own engine may know the operator",
        )


class _Ranges(Interpreter):
    """A plain run that notes, for every operator that needs one, its public factor."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__(graph)
        self.factor: dict[Node, float] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.op == "call_function":
            args, _ = self.fetch_args_kwargs_from_env(n)
            self._note(n, primitive_name(n.target), args, value)
        return value

    def _note(self, node: Node, primitive: str, args: Any, value: Any) -> None:
        largest = float(value.abs().max()) if value.numel() else 0.0
        if primitive in ("linear", "matmul", "convolution", "mul", "sum") and not largest < LARGEST:
            raise RangeError(f"a value of {largest:.3g} overflows CrypTen's fixed point", where=nn.describe(node))
        if primitive == "exp":
            low, high = float(args[0].min()), float(args[0].max())
            if low < EXP[0] or high > EXP[1]:
                raise RangeError(
                    f"CrypTen's exp is right on {EXP} only, the input reaches {low:.3g} .. {high:.3g}",
                    where=nn.describe(node),
                )
        if primitive in SCALED and not (primitive == "div" and not isinstance(args[1], torch.Tensor)):
            measure = _measure(primitive, args)
            target = RECIPROCAL if SCALED[primitive] == 2 else RSQRT
            if measure > 0 and math.isfinite(measure):
                self.factor[node] = power_of_two(target / measure, SCALED[primitive])


def _measure(primitive: str, args: Any) -> float:
    """The largest magnitude of what is inverted."""
    match primitive:
        case "div":
            return float(args[1].abs().max())
        case "layer_norm":
            dims = tuple(range(-len(args[1]), 0))
            return float(args[0].var(dims, unbiased=False).max())
        case "rms_norm":
            dims = tuple(range(-len(args[1]), 0))
            return float(args[0].square().mean(dims).max())
        case "group_norm":
            return float(args[0].reshape(args[0].shape[0], args[1], -1).var(-1, unbiased=False).max())
    return float(args[0].abs().max())
