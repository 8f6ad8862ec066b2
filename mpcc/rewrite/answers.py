"""Cuts off what the client can compute of the outputs by itself, once they are opened to it.

    softmax(logits), argmax(logits)        ->  logits, and Answers that say the rest

A last softmax costs some ten rounds; on opened logits it costs nothing. The client learns the logits then, and not only the
probabilities or the class: `mpcc.security` says so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir.answers import MARK, Answer, Answers, Step
from mpcc.ir.nn import attribute, is_site, shape_of

aten = torch.ops.aten
CLOSE = 1e-4
"""How far what the client computes may be from what the graph does, for the two to be the same function in float32."""


def cut_answers(graph_module: fx.GraphModule) -> tuple[fx.GraphModule, Answers | None]:
    """The model up to what its client needs, and the rest; the model itself and None where nothing would be saved."""
    outputs, named = _outputs(graph_module.graph), {node.name: node for node in graph_module.graph.nodes}
    found = [_followed(node, named) for node in outputs]
    while True:  # a softmax that a product reads as well is computed anyway: its client gets it as it is
        needed = _needed([source for source, _ in found])
        pointless = [steps and node in needed for node, (_, steps) in zip(outputs, found, strict=True)]
        if not any(pointless):
            break
        both = zip(outputs, found, pointless, strict=True)
        found = [(node, ()) if vain else (source, steps) for node, (source, steps), vain in both]
    if all(source is node for node, (source, _) in zip(outputs, found, strict=True)):
        return graph_module, None
    kept = list(dict.fromkeys(source for source, _ in found))
    answers = Answers(tuple(Answer(kept.index(source), steps) for source, steps in found))
    if not _same(graph_module, kept, outputs, answers):
        return graph_module, None
    rest = copy.deepcopy(graph_module)
    places = {node.name: node for node in rest.graph.nodes}
    end = next(node for node in rest.graph.nodes if node.op == "output")
    new = tuple(places[node.name] for node in kept)
    end.args = (new if len(new) > 1 else new[0],)
    rest.graph.eliminate_dead_code()
    rest.recompile()
    return rest, answers


def _outputs(graph: fx.Graph) -> list[fx.Node]:
    value = next(node for node in graph.nodes if node.op == "output").args[0]
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _needed(kept: Collection[fx.Node]) -> set[fx.Node]:
    """All that the parties compute to give these."""
    ahead, seen = list(kept), set[fx.Node]()
    while ahead:
        node = ahead.pop()
        if node not in seen:
            seen.add(node)
            ahead += node.all_input_nodes
    return seen


def _followed(node: fx.Node, named: Mapping[str, fx.Node]) -> tuple[fx.Node, tuple[Step, ...]]:
    """What an output is a function of, and its steps. Views and factors below the last site stay private: they are free."""
    steps: list[Step] = []
    saved, source = 0, node
    while (made := _step(node, named)) is not None:
        costs = is_site(node) or MARK in node.meta
        node, step = made
        steps.append(step)
        if costs:
            saved, source = len(steps), node
    return source, tuple(reversed(steps[:saved]))


def _step(node: fx.Node, named: Mapping[str, fx.Node]) -> tuple[fx.Node, Step] | None:
    """What a node is one step of; None for what only the parties can compute."""
    if MARK in node.meta:
        name, arguments, source = node.meta[MARK]
        return None if source not in named else (named[source], Step(name, tuple(arguments)))
    above = node.args[0] if node.op == "call_function" else None
    if not isinstance(above, fx.Node):
        return None
    if node.target is aten.log.default and above.target is aten.softmax.int:
        return above.args[0], Step("log_softmax", (_dim(above),))  # type: ignore[return-value]
    rule = STEPS.get(node.target)
    step = None if rule is None else rule(node)
    return None if step is None else (above, step)


def _same(graph_module: fx.GraphModule, kept: Sequence[fx.Node], outputs: Sequence[fx.Node], answers: Answers) -> bool:
    """Whether the steps are what the graph computes behind `kept`, on random numbers there."""
    generator = torch.Generator().manual_seed(0)
    values: dict[fx.Node, Any] = {node: torch.randn(shape_of(node), generator=generator) for node in kept}
    opened = [values[node] for node in kept]

    def value(node: fx.Node) -> Any:
        if node not in values:
            if node.op == "placeholder":
                raise LookupError(node.name)
            if node.op == "get_attr":
                values[node] = attribute(graph_module, str(node.target))
            else:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return values[node]

    with torch.no_grad():
        try:
            wanted: list[Tensor] = [value(node) for node in outputs]
        except LookupError:
            return False
        found = answers.of(opened)
    return all(
        one.shape == other.shape and torch.allclose(one.double(), other.double(), CLOSE, CLOSE)
        for one, other in zip(found, wanted, strict=True)
    )


def _dim(node: fx.Node) -> int:
    return int(node.args[1])  # type: ignore[arg-type]


def _factor(node: fx.Node) -> Step | None:
    return Step("scale", (float(node.args[1]),)) if isinstance(node.args[1], (int, float)) else None


STEPS: dict[Any, Callable[[fx.Node], Step | None]] = {
    aten.softmax.int: lambda node: Step("softmax", (_dim(node),)),
    aten.sigmoid.default: lambda node: Step("sigmoid"),
    aten.mul.Tensor: _factor,
    aten.reshape.default: lambda node: Step("reshape", shape_of(node)),
    aten.permute.default: lambda node: Step("permute", tuple(node.args[1])),  # type: ignore[arg-type]
}
