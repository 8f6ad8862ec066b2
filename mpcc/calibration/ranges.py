"""What values a graph computes over calibration inputs: the `Range` of every node, observed in float.

`observe` runs a graph of either level over many calls at once (`torch.func.vmap` over the calls, so that a graph with a
static batch of 1 still sees images by the dozen); `record_ranges` notes smallest, largest and root mean square in
`node.meta["range"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from mpcc.approximate.logit_margin import STRETCH, Stretched, regions
from mpcc.errors import RangeError, ShapeError
from mpcc.ir.nn import size_of
from mpcc.ir.value_range import EXAMPLES, Range

from .arrays import checked

ELEMENTS_AT_ONCE = 1 << 20  # of the largest value: bounds the memory of a run over many calls
LARGE = 1 << 17  # elements of the largest value from which on calls run one by one: together they gain nothing
MOST_EXAMPLES = 16
"""Calls whose inputs are kept for lowering, which takes derivatives at them (see `mpcc.lowering.flood`)."""
Inputs = Tensor | Iterable[Any]
"""One tensor [examples, ...] for a graph of one input, or an iterable of calls: a tensor, or a tuple of tensors."""


def stack_calls(graph_module: fx.GraphModule, inputs: Inputs) -> tuple[Tensor, ...]:
    """Calibration inputs as one tensor [calls, *static shape] for each placeholder.

    For a graph of one input, tensors [examples, ...] are cut into calls of its static batch; what does not fill
    a call is left out.
    """
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    shapes = [tuple(node.meta["val"].shape) for node in placeholders]
    calls = [call for part in ([inputs] if isinstance(inputs, Tensor) else inputs) for call in _calls(part, shapes)]
    if not calls:
        raise ShapeError("there are no calibration inputs", hint="Give at least one example.")
    for call in calls:
        if len(call) != len(shapes):
            raise ShapeError(f"the model takes {len(shapes)} inputs, a calibration example has {len(call)}")
        for node, shape, value in zip(placeholders, shapes, call, strict=True):
            if not isinstance(value, Tensor) or tuple(value.shape) != shape:
                seen = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise ShapeError(f"a calibration example is {seen}, not {shape}", where=f"input {node.name}")
    columns = zip(placeholders, zip(*calls, strict=True), strict=True)
    stacked = ((node, torch.stack(column).to(node.meta["val"].dtype)) for node, column in columns)
    return tuple(checked(column, f"input {node.name}") for node, column in stacked)


def _calls(inputs: Any, shapes: Sequence[tuple[int, ...]]) -> list[tuple[Any, ...]]:
    """One entry of the calibration inputs as calls: a tuple is a call, a tensor for a single input may be several."""
    if isinstance(inputs, (tuple, list)):
        return [tuple(inputs)]
    if not isinstance(inputs, Tensor):
        raise ShapeError(f"a calibration example is a {type(inputs).__name__}, not a tensor")
    if len(shapes) != 1:
        raise ShapeError(f"the model takes {len(shapes)} inputs; one calibration tensor does not say which is which")
    return [(call,) for call in _cut(inputs, shapes[0])]


def _cut(inputs: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    if tuple(inputs.shape) == shape:
        return [inputs]
    if tuple(inputs.shape[1:]) == shape:  # already [calls, *shape]
        return list(inputs)
    if not shape or inputs.dim() != len(shape) or tuple(inputs.shape[1:]) != shape[1:]:
        expected = ", ".join(["examples", *map(str, shape[1:])])
        raise ShapeError(f"the calibration inputs are {tuple(inputs.shape)}, the model takes [{expected}]")
    if len(inputs) < shape[0]:
        raise ShapeError(f"{len(inputs)} calibration examples do not fill one batch of {shape[0]}")
    return list(inputs[: len(inputs) // shape[0] * shape[0]].reshape(-1, *shape))


Look = Callable[[fx.Node, tuple[Any, ...], Mapping[str, Any], Any], Any]
"""What is taken down of a node: look(node, args, kwargs, value) gives tensors (or a tree of them), or None."""


def observe(
    graph_module: fx.GraphModule, inputs: Inputs, look: Look, functions: Mapping[fx.Node, Callable[..., Any]] | None = None
) -> dict[str, Any]:
    """Run over all calls; `look` sees one call at a time. `functions` stand in for the operators of some nodes.

    The result is node name -> what `look` gave, with a leading dimension for the calls.
    """
    columns = stack_calls(graph_module, inputs)

    def one_call(*values: Tensor) -> dict[str, Any]:
        watcher = _Watcher(graph_module, look, functions or {})
        watcher.run(*values)
        return watcher.seen

    return dict(over_calls(graph_module, one_call, columns))


def outputs_with(
    graph_module: fx.GraphModule, inputs: Inputs, functions: Mapping[fx.Node, Callable[..., Any]]
) -> tuple[Tensor, ...]:
    """Every output, with a leading dimension for the calls, where `functions` stand in for the operators of some nodes."""

    def one_call(*values: Tensor) -> tuple[Tensor, ...]:
        made = _Watcher(graph_module, lambda *_: None, functions).run(*values)
        return tuple(made) if isinstance(made, (tuple, list)) else (made,)

    return tuple(over_calls(graph_module, one_call, stack_calls(graph_module, inputs)))


def over_calls(graph_module: fx.GraphModule, one_call: Callable[..., Any], columns: Sequence[Tensor]) -> Any:
    """What `one_call` gives for every call, with a leading dimension for the calls."""
    largest = _largest(graph_module)
    chunk = max(1, ELEMENTS_AT_ONCE // max(largest, 1))
    with torch.no_grad():
        if largest > LARGE:
            found = [one_call(*values) for values in zip(*columns, strict=True)]
            return tree_map(lambda *parts: torch.stack(parts), *found)
        return torch.func.vmap(one_call, chunk_size=chunk, randomness="error")(*columns)


def values_a_call(graph_module: fx.GraphModule) -> int:
    """Values that one call computes, all nodes together."""
    return sum(size_of(node) for node in graph_module.graph.nodes if node.op == "call_function")


def _largest(graph_module: fx.GraphModule) -> int:
    return max((size_of(n) for n in graph_module.graph.nodes if "val" in n.meta), default=1)


class _Watcher(fx.Interpreter):
    """Runs a graph and keeps what `look` makes of every node's value."""

    def __init__(self, graph_module: fx.GraphModule, look: Look, functions: Mapping[fx.Node, Callable[..., Any]]) -> None:
        super().__init__(graph_module)
        self.look, self.functions = look, functions
        self.seen: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        value = self.functions[n](*args, **kwargs) if n in self.functions else super().run_node(n)
        if n.op == "output":
            return value
        seen = self.look(n, args, kwargs, value)
        if seen is not None:
            self.seen[n.name] = seen
        return value


def summary(value: Tensor) -> Tensor:
    """[smallest, largest, mean of squares] of a tensor, as a tensor (so that it works inside vmap).

    The norm is taken in the tensor's own precision: a copy in double would cost ten times as much. Where its square
    overflows, the largest magnitude stands for it.
    """
    value = value.reshape(-1) if value.is_floating_point() else value.reshape(-1).double()
    low, high = value.amin().double(), value.amax().double()
    root = torch.linalg.vector_norm(value).double() / value.numel() ** 0.5
    return torch.stack([low, high, torch.minimum(root, torch.maximum(-low, high)).square()])


def merged(rows: Tensor) -> Range:
    """The range over all calls, from one `summary` a call: [calls, 3]."""
    rows = rows.reshape(-1, 3)
    return Range(rows[:, 0].min().item(), rows[:, 1].max().item(), rows[:, 2].mean().sqrt().item())


def record_ranges(graph_module: fx.GraphModule, inputs: Inputs, stretch: float = STRETCH) -> None:
    """Set `node.meta["range"]` of every node that computes a tensor, and the graph's EXAMPLES. RangeError if one is not finite.

    Inside softmax sites the extremes also cover logits times `stretch` (see mpcc.approximate.logit_margin).
    """
    columns, where = stack_calls(graph_module, inputs), regions(graph_module.graph)

    def one_call(*values: Tensor, look: Callable[[Tensor], Any] = summary) -> dict[str, tuple[Any, Any]]:
        runner = Stretched(graph_module, where, stretch, look)
        runner.run(*values)
        return runner.seen

    seen: dict[str, tuple[Tensor, Tensor]]
    if _largest(graph_module) > LARGE:
        # Numbers, no small tensors: these would lie between the freed large ones and keep their memory from being joined.
        with torch.no_grad():
            rows = [one_call(*values, look=lambda v: summary(v).tolist()) for values in zip(*columns, strict=True)]
        table = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}
        seen = {name: (both[:, 0], both[:, 1]) for name, both in table.items()}
    else:
        seen = over_calls(graph_module, one_call, columns)
    graph_module.meta[EXAMPLES] = list(zip(*(column[:MOST_EXAMPLES].clone() for column in columns), strict=True))
    for node in graph_module.graph.nodes:
        if node.name not in seen:
            continue
        plain, wide = seen[node.name]
        if not (torch.isfinite(plain).all() and torch.isfinite(wide).all()):
            place = f"{node.meta.get('site') or node.meta.get('layer') or '?'} ({node.name})"
            raise RangeError("a value is NaN or infinite on the calibration inputs", where=place)
        usual, extreme = merged(plain), merged(wide)
        node.meta["range"] = Range(min(usual.low, extreme.low), max(usual.high, extreme.high), usual.rms)
