"""Trainable graphs: sites as mixtures of their candidates while searching, and as what was picked afterwards.

    softmax(x)  ->  sum over k of w[h, k] f_k(x),    w[h, :] = softmax(scores[h, :] / temperature)      h: head, token or 1
    softmax(x)  ->  f_0 on heads 0 and 2, f_1 on heads 1 and 3                                          once picked

A candidate's f is `Approximation.function` in its exact form, or the operator itself. MPCViT (arXiv 2211.13955,
section 4.2) has two candidates for each head and w = (alpha, 1 - alpha), where alpha starts at 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from mpcc.approximate import Approximation, Choice, Options, Split
from mpcc.approximate.expand import site_function
from mpcc.approximate.recipe import EXACT, Granularity, Use, positions
from mpcc.approximate.split import split_function
from mpcc.ir.nn import attribute, operator_of, shape_of


@dataclass(frozen=True)
class Candidate:
    """A recipe's alternative at a site, and the options that it is trained with."""

    use: Use
    options: Options = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.use.approximation


@dataclass(frozen=True)
class Gate:
    """A site with a choice: one for each of the `positions` along `dim` of its input, or one for the site (None, 1)."""

    node: fx.Node
    dim: int | None
    positions: int
    candidates: tuple[Candidate, ...]

    @property
    def site(self) -> str:
        return str(self.node.meta["site"])

    @property
    def operator(self) -> str:
        found = operator_of(self.node)
        assert found is not None
        return found.name

    def spread(self, weights: Tensor) -> Tensor:
        """[positions] as a tensor that broadcasts over the site's output."""
        if self.dim is None:
            return weights
        rank = len(shape_of(self.node.args[0]))  # type: ignore[arg-type]
        return weights.reshape([self.positions if d == self.dim else 1 for d in range(rank)])


def gate(node: fx.Node, granularity: Granularity, candidates: Sequence[Candidate]) -> Gate:
    """The gate of a site. A site without the dimension that `granularity` names is chosen for as a whole."""
    found = operator_of(node)
    assert found is not None
    dim, count = positions(found.name, granularity, shape_of(node.args[0]))  # type: ignore[arg-type]
    return Gate(node, dim if count > 1 else None, count, tuple(candidates))


def function_of(node: fx.Node, candidate: Candidate, approximations: Mapping[str, Approximation]) -> Callable[..., Any]:
    """A candidate as a function of the operator's arguments, as it is trained."""
    if candidate.name == EXACT:
        return node.target  # type: ignore[return-value]
    return site_function(node, Choice(candidate.name, candidate.options), approximations)


class Mixture(nn.Module):
    """The weighted sum of a gate's candidates. `paired`: one score per position, weights (score, 1 - score)."""

    def __init__(self, gate: Gate, approximations: Mapping[str, Approximation], *, paired: bool) -> None:
        super().__init__()
        self.gate, self.paired, self.temperature = gate, paired, 1.0
        self.functions = [function_of(gate.node, candidate, approximations) for candidate in gate.candidates]
        start = torch.ones(gate.positions, 1) if paired else torch.zeros(gate.positions, len(gate.candidates))
        self.scores = nn.Parameter(start)

    def weights(self) -> Tensor:
        """[positions, candidates]."""
        if self.paired:
            return torch.cat([self.scores, 1 - self.scores], 1)
        return (self.scores / self.temperature).softmax(1)

    def forward(self, *args: Any) -> Tensor:
        weights = self.weights()
        parts = [self.gate.spread(weights[:, k]) * function(*args) for k, function in enumerate(self.functions)]
        return torch.stack(parts).sum(0)


class Picked(nn.Module):
    """What was picked at a gate: a candidate index for each position."""

    def __init__(self, gate: Gate, picks: Sequence[int], approximations: Mapping[str, Approximation]) -> None:
        super().__init__()
        functions = {index: function_of(gate.node, gate.candidates[index], approximations) for index in set(picks)}
        if len(functions) == 1:
            (self.function,) = functions.values()
            return
        assert gate.dim is not None
        entry = Split.of(gate.dim, [Choice(str(pick)) for pick in picks])
        assert isinstance(entry, Split)
        ordered = [functions[int(part.choice.approximation)] for part in entry.parts]
        self.function = split_function(gate.node, entry, ordered)

    def forward(self, *args: Any) -> Tensor:
        result: Tensor = self.function(*args)
        return result


def replaced(
    base: fx.GraphModule, sites: Mapping[str, nn.Module], taps: Sequence[fx.Node] = ()
) -> fx.GraphModule:
    """A copy of `base` with its own weights, in which `sites` are calls of modules; `taps` (nodes of `base`) are further
    outputs. A replaced node keeps its name; `meta["site_node"]` is the node it replaces."""
    own = copy.deepcopy({name: value for name, value in _constants(base).items()})
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    for node in base.graph.nodes:
        if node.op == "output":
            outputs = node.args[0] if isinstance(node.args[0], tuple) else (node.args[0],)
            graph.output(tuple(env[n] for n in (*outputs[:1], *taps)))
            continue
        module = sites.get(node.meta.get("site", ""))
        if module is None:
            env[node] = graph.node_copy(node, lambda n: env[n])
            continue
        name = f"site_{len(env)}"
        own[name] = module
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: env[n])
        positional = tuple(v for k, v in kwargs.items() if k not in ("approximate", "dtype"))
        env[node] = graph.create_node("call_module", name, (*args, *positional), {}, name=node.name)
        env[node].meta = {**node.meta, "site_node": node}
    return fx.GraphModule(own, graph)


def _constants(base: fx.GraphModule) -> dict[str, Any]:
    return {str(n.target): attribute(base, str(n.target)) for n in base.graph.nodes if n.op == "get_attr"}


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The model's own parameters by name, without the scores of mixtures."""
    return {name: value for name, value in module.named_parameters() if not name.endswith(".scores")}


def batched(module: nn.Module, images: Tensor, batch: int) -> tuple[Tensor, ...]:
    """The graph's outputs, [count, ...] each, for images [count, ...]: calls of its static batch, run together."""
    calls = images.reshape(-1, batch, *images.shape[1:])
    outputs = torch.func.vmap(module)(calls)
    return tuple(value.flatten(0, 1) for value in outputs)
