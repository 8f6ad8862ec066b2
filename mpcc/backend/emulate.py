"""Fixed-point emulation: the online program run once, as the leading party, on totals and with zero masks.

The same kernels and truncations as the secure run; the two differ by at most one unit at each truncation.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from ..ir import online
from ..schedule.program import Program, encode_tensor
from .evaluate import compile_steps, decode, encode_weights, execute


class Emulator:
    """A program made ready for many inputs."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.steps = compile_steps(program, 0)
        self.env: dict[str, Any] = dict(encode_weights(program))
        sources = {n.name: n for n in program.dealer.graph.nodes}
        cache: dict[fx.Node, Any] = {}
        for share, source in program.correlations:
            boolean = bool(program.nodes[share].meta.get("boolean"))
            self.env[share] = _with_zero_masks(sources[source], cache) if boolean else None
        execute(self.steps.setup, self._weights_opened())
        execute(self.steps.offline, self.env)

    def _weights_opened(self) -> dict[str, Any]:
        for node in self.program.online.graph.nodes:
            if node.target is online.open_weight:
                masked = node.args[0]
                assert isinstance(masked, fx.Node)
                self.env[node.name] = self.env[str(masked.args[0])]
        return self.env

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Float outputs for float inputs of the program's shapes."""
        env = dict(self.env)
        for node, value in zip(self.program.inputs(), inputs, strict=True):
            env[node.name] = encode_tensor(value, node.meta["scale"])
        for index, segment in enumerate(self.steps.segments):
            execute(segment, env)
            if index < len(self.program.messages):
                for name in self.program.messages[index].opens:
                    env[name] = env[str(self.program.nodes[name].args[0])]
        return [decode(env[str(self.program.nodes[name].args[0])], scale) for name, scale in self.program.outputs]


def _with_zero_masks(node: fx.Node, cache: dict[fx.Node, Any]) -> Any:
    if node not in cache:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: _with_zero_masks(n, cache))
        cache[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return cache[node]


