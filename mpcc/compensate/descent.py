"""All weights of a block moved together by gradient, towards the same target on the same inputs: what no single solve can find.

A block is what leads to one product and to nothing else: from the stream (which is also read elsewhere) through norms, queries,
keys and activations to the layer whose output is added to the stream. As in BRECQ (arXiv 2102.05426), which rounds weights so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

BATCH, RATE = 16, 2e-2
"""Calls of a step; what Adam moves a weight by in its first steps, relative to the root mean square of its tensor. Chosen on the
tuning half of benchmarks/zoo."""
SMALLEST = 1e-3
"""Size that a tensor is taken for at least: biases may be zero."""
SEED = 0


@dataclass(frozen=True)
class Block:
    """`nodes` in order, the last is the product; `outside`: what they read besides constants."""

    nodes: tuple[fx.Node, ...]
    outside: tuple[fx.Node, ...]


def block_of(product: fx.Node, secret: Collection[fx.Node], affected: Collection[fx.Node]) -> Block:
    """The block that ends in a product, of nodes that a change reaches; `secret` nodes depend on the inputs."""
    inside = {product}
    outside: dict[fx.Node, None] = {}
    place = product
    while place.op != "root":
        if place in inside:
            for operand in (one for one in place.all_input_nodes if one in secret):
                if operand in affected and all(user in inside for user in operand.users):
                    inside.add(operand)
                else:
                    outside[operand] = None
        place = place.prev
    ordered = [node for node in product.graph.nodes if node in inside]
    return Block(tuple(ordered), tuple(node for node in outside if node not in inside))


@dataclass(frozen=True)
class Descent:
    """What to do: `function` of each node now, the `constants`, which of them are `free`, and the target of the product."""

    block: Block
    function: Callable[[fx.Node], Callable[..., Any]]
    constants: Mapping[fx.Node, Tensor]
    free: Sequence[fx.Node]
    values: Mapping[fx.Node, Tensor]
    target: Tensor

    def error(self, part: Tensor, own: Mapping[fx.Node, Tensor]) -> Tensor:
        """Mean square error on the calls `part` with some constants replaced."""
        known = {**self.constants, **own}

        def one_call(*given: Tensor) -> Tensor:
            env: dict[fx.Node, Any] = {**known, **dict(zip(self.block.outside, given, strict=True))}
            for node in self.block.nodes:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: env[n])
                env[node] = self.function(node)(*args, **kwargs)
            return env[self.block.nodes[-1]]  # type: ignore[no-any-return]

        made = torch.func.vmap(one_call, randomness="error")(*(self.values[node][part] for node in self.block.outside))
        return (made - self.target[part]).square().mean()

    def run(self, steps: int, fit: int, tune: int) -> dict[fx.Node, Tensor] | None:
        """The free constants after so many steps on the first `fit` calls; None where the next `tune` are no better for it."""
        held = torch.arange(fit, fit + tune)
        with torch.no_grad():
            before = float(self.error(held, {}))
        moved = {node: self.constants[node].clone().requires_grad_() for node in self.free}
        sizes = [max(float(one.detach().square().mean().sqrt()), SMALLEST) for one in moved.values()]
        groups = [{"params": [one], "lr": 0.0, "size": size} for one, size in zip(moved.values(), sizes, strict=True)]
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        generator = torch.Generator().manual_seed(SEED)
        with torch.enable_grad():
            for step in range(steps):
                for group in optimizer.param_groups:
                    group["lr"] = RATE * group["size"] * (1 + math.cos(math.pi * step / steps)) / 2
                optimizer.zero_grad()
                loss = self.error(torch.randint(0, fit, (BATCH,), generator=generator), moved)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        made = {node: value.detach() for node, value in moved.items()}
        with torch.no_grad():
            after = float(self.error(held, made))
        return made if after < before else None
