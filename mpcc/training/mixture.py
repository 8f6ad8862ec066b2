"""Sites as mixtures of their candidates, and sites as what was picked: both as trainable graphs.

    softmax(x)  ->  sum over k of w[h, k] f_k(x),    w[h, :] = softmax(scores[h, :] / temperature)      h: head, token or 1
    softmax(x)  ->  f_0 on heads 0 and 2, f_1 on heads 1 and 3                                          once picked

A candidate's f is `Approximation.function` with exact reciprocals, or the operator itself ("exact").
MPCViT (arXiv 2211.13955, section 4.2) has two candidates a head and w = (alpha, 1 - alpha), alpha from 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from mpcc.approximate import Approximation, Choice, Options, Split
from mpcc.approximate.expand import site_function
from mpcc.approximate.split import split_function
from mpcc.ir.nn import attribute, operator_of, shape_of

EXACT = "exact"
Granularity = Literal["head", "token", "layer"]
GRANULARITIES: tuple[Granularity, ...] = ("head", "token", "layer")


@dataclass(frozen=True)
class Candidate:
    """An approximation by name, with the options that training keeps fixed; `exact` is the operator itself."""

    name: str
    options: Options


@dataclass(frozen=True)
class Gate:
    """A site that is chosen for: `positions` along `dim` of its input, one by one, or the whole site (None, 1)."""

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
    """The gate of a site. Heads are the third dimension from the end of a softmax, tokens the second; of a GELU
    [..., tokens, channels] the second. What has no such dimension is chosen for as a whole."""
    shape, found = shape_of(node.args[0]), operator_of(node)  # type: ignore[arg-type]
    assert found is not None
    back = {"head": 3 if found.name == "softmax" else None, "token": 2, "layer": None}[granularity]
    dim = None if back is None or len(shape) < 3 or shape[-back] == 1 else len(shape) - back
    return Gate(node, dim, 1 if dim is None else shape[dim], tuple(candidates))


def ideal(node: fx.Node, candidate: Candidate, approximations: Mapping[str, Approximation]) -> Callable[..., Any]:
    """A candidate as a function of the operator's arguments, with exact reciprocals."""
    if candidate.name == EXACT:
        return node.target  # type: ignore[return-value]
    return site_function(node, Choice(candidate.name, candidate.options), approximations)


class Mixture(nn.Module):
    """The weighted sum of a gate's candidates. `paired`: one score a position, weights (score, 1 - score)."""

    def __init__(self, gate: Gate, approximations: Mapping[str, Approximation], *, paired: bool) -> None:
        super().__init__()
        self.gate, self.paired, self.temperature = gate, paired, 1.0
        self.functions = [ideal(gate.node, candidate, approximations) for candidate in gate.candidates]
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
        functions = {index: ideal(gate.node, gate.candidates[index], approximations) for index in set(picks)}
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
    outputs. A replaced node keeps its name, and `meta["site_node"]` is the node that it stands for."""
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
    """The parameters that are the model's own, by name: what a plan's model is trained in."""
    return {name: value for name, value in module.named_parameters() if not name.endswith(".scores")}


def batched(module: nn.Module, images: Tensor, batch: int) -> tuple[Tensor, ...]:
    """The graph's outputs for images [count, ...]: calls of its static batch side by side; [count, ...] each."""
    calls = images.reshape(-1, batch, *images.shape[1:])
    outputs = torch.func.vmap(module)(calls)
    return tuple(value.flatten(0, 1) for value in outputs)
