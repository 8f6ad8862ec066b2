"""One party's side of an online program: local kernels between the messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from ..ir import mpc, online
from ..schedule.program import Program, encode_tensor


def takes_lead(target: Any) -> bool:
    return target not in mpc.VIEWS and "lead" in inspect.signature(target).parameters


@dataclass(frozen=True)
class Step:
    """One local kernel: env[name] = target(...). `dead` are the values that nothing later reads."""

    name: str
    target: Callable[..., Any]
    args: Any
    kwargs: dict[str, Any]
    dead: tuple[str, ...]


@dataclass
class Compiled:
    """A program as lists of steps: set-up, offline, and one online segment before each message and before the output."""

    setup: list[Step] = field(default_factory=list)
    offline: list[Step] = field(default_factory=list)
    segments: list[list[Step]] = field(default_factory=list)


def compile_steps(program: Program, party: int) -> Compiled:
    """Order the nodes by phase and level; after each step say what can be freed (only within the online phase)."""
    compiled = Compiled(segments=[[] for _ in range(len(program.messages) + 1)])
    chosen: list[tuple[list[Step], fx.Node]] = []
    for node in program.online.graph.nodes:
        if node.op != "call_function" or node.target in online.COMMUNICATION:
            continue
        phase, level = node.meta["phase"], node.meta["level"]
        where = compiled.setup if phase == "setup" else compiled.offline if phase == "offline" else compiled.segments[level]
        chosen.append((where, node))
    order = {id(compiled.setup): -2, id(compiled.offline): -1} | {id(s): i for i, s in enumerate(compiled.segments)}
    chosen.sort(key=lambda pair: order[id(pair[0])])
    last: dict[fx.Node, fx.Node] = {}
    for _, node in chosen:
        for source in node.all_input_nodes:
            last[source] = node
    kept = {n for n in program.online.graph.nodes for u in n.users if u.target in online.COMMUNICATION or u.op == "output"}
    for where, node in chosen:
        online_phase = node.meta["phase"] == "online"
        dead = tuple(
            s.name for s in node.all_input_nodes
            if online_phase and last[s] is node and s not in kept and s.meta["phase"] != "setup"
        )  # fmt: skip
        kwargs = dict(node.kwargs) | ({"lead": party == 0} if takes_lead(node.target) else {})
        where.append(Step(node.name, node.target, _named(node.args), kwargs, dead))  # type: ignore[arg-type]
    return compiled


@dataclass(frozen=True)
class Ref:
    name: str


def _named(args: Any) -> Any:
    return fx.node.map_arg(args, lambda n: Ref(n.name))


def _resolve(value: Any, env: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return env[value.name]
    if isinstance(value, (tuple, list)):
        return tuple(_resolve(v, env) for v in value)
    return value


def execute(steps: list[Step], env: dict[str, Any]) -> None:
    """Run the steps. A view of an absent share (None stands for zero) is absent."""
    for step in steps:
        args = _resolve(step.args, env)
        if args and args[0] is None and step.target in mpc.VIEWS:
            env[step.name] = None
        else:
            env[step.name] = step.target(*args, **step.kwargs)
        for name in step.dead:
            env.pop(name, None)


def encode_weights(program: Program) -> dict[str, Tensor]:
    """The owner's weights as ring integers, by placeholder name."""
    return {
        n.name: encode_tensor(program.constants[n.meta["constant"]], n.meta["scale"])
        for n in program.online.graph.nodes
        if n.meta.get("kind") == "weight"
    }


class Party:
    """The state of one party over a session: set up once, then one inference after another."""

    def __init__(self, program: Program, party: int) -> None:
        self.program, self.party = program, party
        self.steps = compile_steps(program, party)
        weights: dict[str, Any] = {n.name: None for n in program.online.graph.nodes if n.meta.get("kind") == "weight"}
        self.fixed: dict[str, Any] = weights | (encode_weights(program) if party == 0 else {})
        self.env: dict[str, Any] = {}
        self.opened_weights = [n for n in program.online.graph.nodes if n.target is online.open_weight]

    # -- set-up --

    def setup_message(self, correlations: Mapping[str, Any]) -> Tensor | None:
        """The owner's message: all masked weights. The other party sends nothing."""
        self.fixed.update(correlations)
        if self.party == 1:
            return None
        execute([s for s in self.steps.setup if s.target is online.mask_with], self.fixed)
        parts = [self.fixed[str(n.args[0])].reshape(-1) for n in self.opened_weights]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def finish_setup(self, message: Tensor) -> None:
        """Both: keep the opened weights, run what depends on them only."""
        position = 0
        for node in self.opened_weights:
            shape = tuple(node.meta["val"].shape)
            count = int(node.meta["val"].numel())
            self.fixed[node.name] = message[position : position + count].reshape(shape)
            position += count
        execute([s for s in self.steps.setup if s.target is not online.mask_with], self.fixed)

    # -- one inference --

    def prepare(self, correlations: Mapping[str, Any]) -> None:
        """The offline phase: everything that does not need the input."""
        self.env = self.fixed | dict(correlations)
        execute(self.steps.offline, self.env)

    def start(self, inputs: Mapping[str, Tensor]) -> None:
        """The party's shares of the inputs, as ring integers."""
        self.env.update(inputs)

    def message(self, index: int) -> Tensor:
        """Run up to exchange `index`; give what is sent."""
        execute(self.steps.segments[index], self.env)
        nodes = self.program.nodes
        return torch.cat([self.env[str(nodes[name].args[0])].reshape(-1) for name in self.program.messages[index].opens])

    def receive(self, index: int, sent: Tensor, received: Tensor) -> None:
        """Open: sums for arithmetic values, xor for bits."""
        position = 0
        for name in self.program.messages[index].opens:
            node = self.program.nodes[name]
            count, shape = int(node.meta["val"].numel()), tuple(node.meta["val"].shape)
            mine, theirs = sent[position : position + count], received[position : position + count]
            self.env[name] = (mine ^ theirs if node.target is online.open_bits else mine + theirs).reshape(shape)
            position += count

    def outputs(self) -> list[Tensor]:
        """This party's shares of the outputs."""
        execute(self.steps.segments[-1], self.env)
        shares = [self.env[str(self.program.nodes[name].args[0])] for name, _ in self.program.outputs]
        self.env = {}
        return shares


def decode(total: Tensor, scale: float) -> Tensor:
    """Ring integers as float32."""
    return (total.double() / scale).float()
