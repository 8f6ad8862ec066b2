"""One party's side of an online program: local kernels between the messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir import mpc, online
from mpcc.ir.info import Way, info_of, weight_of
from mpcc.ir.nn import size_of
from mpcc.program.layout import Place
from mpcc.program.program import Program, encode_tensor
from mpcc.program.rounds import Message
from mpcc.program.ways import needed_ahead

from ..device.device import CPU, Device

Env = dict[str, Any]
"""The values of nodes by name. A share that is absent (None) stands for zero."""


def takes_lead(target: Any) -> bool:
    return target not in mpc.VIEWS and "lead" in inspect.signature(target).parameters


@dataclass(frozen=True)
class Step:
    """One local kernel, made ready: env[name] = target(...). `dead` are the values that nothing later reads."""

    name: str
    target: Callable[..., Any]
    arguments: tuple[Callable[[Env], Any], ...]
    kwargs: Mapping[str, Any]
    dead: tuple[str, ...]
    view: bool

    def run(self, env: Env) -> None:
        """A view of an absent share is absent."""
        arguments = [get(env) for get in self.arguments]
        if self.view and arguments[0] is None:
            env[self.name] = None
        else:
            env[self.name] = self.target(*arguments, **self.kwargs)
        for name in self.dead:
            env.pop(name, None)


@dataclass(frozen=True)
class Opening:
    """One opening of an exchange: what is sent, what is made of it, and where it lies in what is sent and in what comes.

    `mine` or `theirs` is None where that part does not travel in the exchange.
    """

    name: str
    source: str
    mine: Place | None
    theirs: Place | None
    way: Way
    shape: tuple[int, ...]
    bits: bool


@dataclass
class Compiled:
    """A program as lists of steps: set-up, offline, one online segment before each exchange and before the output."""

    setup: list[Step] = field(default_factory=list)
    offline: list[Step] = field(default_factory=list)
    segments: list[list[Step]] = field(default_factory=list)
    exchanges: list[list[Opening]] = field(default_factory=list)


def compile_steps(program: Program, party: int, instead: Mapping[Any, Callable[..., Any]] | None = None) -> Compiled:
    """Order the nodes by phase and level; after each step say what can be freed (only within the online phase).

    `instead`: what stands for some kernels.
    """
    exchanges = [_openings(program, message, party) for message in program.messages]
    early = needed_ahead(program.online.graph, {program.nodes[place.name] for place in program.ahead}) if party == 1 else set()
    compiled = Compiled(segments=[[] for _ in range(len(exchanges) + 1)], exchanges=exchanges)
    places: list[list[Step]] = [compiled.setup, compiled.offline, *compiled.segments]
    chosen: list[tuple[int, fx.Node]] = []
    for node in program.online.graph.nodes:
        if node.op == "call_function" and node.target not in online.COMMUNICATION:
            phase, level = info_of(node).phase, info_of(node).level
            chosen.append((0 if phase == "setup" else 1 if phase == "offline" or node in early else 2 + level, node))
    chosen.sort(key=lambda pair: pair[0])
    last: dict[fx.Node, fx.Node] = {}
    for _, node in chosen:
        for source in node.all_input_nodes:
            last[source] = node
    nodes = program.online.graph.nodes
    kept = {n for n in nodes for u in n.users if u.target in online.COMMUNICATION or u.op == "output"}
    for place, node in chosen:
        online_phase = info_of(node).phase == "online"
        dead = tuple(
            s.name for s in node.all_input_nodes
            if online_phase and last[s] is node and s not in kept and info_of(s).phase != "setup"
        )  # fmt: skip
        kwargs = dict(node.kwargs) | ({"lead": party == 0} if takes_lead(node.target) else {})
        getters = tuple(_getter(argument) for argument in node.args)
        target: Callable[..., Any] = node.target  # type: ignore[assignment]
        run = (instead or {}).get(target, target)
        if party == 1 and target is online.weight_product:  # minus the share of r W: c may be unknown here, or not yet known
            run, getters, kwargs = torch.neg, (_getter(node.args[3]),), {}
        places[place].append(Step(node.name, run, getters, kwargs, dead, target in mpc.VIEWS))
    return compiled


def _openings(program: Program, message: Message, party: int) -> list[Opening]:
    mine, theirs = ({place.name: place for place in message.sides[side]} for side in (party, 1 - party))
    found = []
    for name in message.opens:
        node = program.nodes[name]
        bits, shape, way = node.target is online.open_bits, tuple(node.meta["val"].shape), info_of(node).way
        found.append(Opening(name, str(node.args[0]), mine.get(name), theirs.get(name), way, shape, bits))
    return found


def _getter(argument: Any) -> Callable[[Env], Any]:
    """How an argument of a node is found among the values."""
    if isinstance(argument, fx.Node):
        name = argument.name
        return lambda env: env[name]
    if isinstance(argument, (tuple, list)):
        if not _mentions_node(argument):
            constant = tuple(argument)
            return lambda env: constant
        parts = [_getter(part) for part in argument]
        return lambda env: tuple(part(env) for part in parts)
    return lambda env: argument


def _mentions_node(argument: Any) -> bool:
    if isinstance(argument, (tuple, list)):
        return any(_mentions_node(part) for part in argument)
    return isinstance(argument, fx.Node)


def execute(steps: Sequence[Step], env: Env) -> None:
    for step in steps:
        step.run(env)


def lasting(graph: fx.Graph) -> set[str]:
    """The names of values that are read after the set-up."""

    def reads(user: fx.Node) -> bool:
        sends = user.target in online.COMMUNICATION and user.target is not online.open_weight
        return user.op == "output" or sends or info_of(user).phase != "setup"

    return {node.name for node in graph.nodes if any(map(reads, node.users))}


def encode_weights(program: Program, party: int = 0) -> dict[str, Tensor]:
    """The weights as ring integers, by placeholder name: the server's, or those that everybody has.

    One that is multiplied as a transpose lies in memory as that: `mpcc.ir.limbs` then needs no copy of it.
    """
    nodes = program.online.graph.nodes
    known = [(node.name, w) for node in nodes if (w := weight_of(node)) is not None and (party == 0 or w.public)]
    weights = {name: encode_tensor(program.constants[w.constant], w.scale) for name, w in known}
    uses = [(n.args[2].name, n.args[0]) for n in nodes if n.target in (online.weight_product, online.public_product)]
    straight = {name for name, kind in uses if kind not in TRANSPOSED}
    turned = {name for name, _ in uses} - straight
    return {name: w.mT.contiguous().mT if name in turned and w.dim() > 1 else w for name, w in weights.items()}


TRANSPOSED = ("linear", "rmatmul")
"""Kinds of products that multiply with W.T from the right."""


class Party:
    """The state of one party over a session: set up once, then one inference after another.

    All values are on `device`; messages come and go as buffers of the host, correlations are on the device already.
    """

    def __init__(self, program: Program, party: int, device: Device = CPU) -> None:
        self.program, self.party, self.device = program, party, device
        weights: Env = {n.name: None for n in program.online.graph.nodes if weight_of(n) is not None}
        encoded = {name: device.on_it(weight) for name, weight in encode_weights(program, party).items()}
        self.fixed: Env = weights | encoded
        self.steps = compile_steps(program, party, device.online(list(self.fixed.values())))
        self.env: Env = {}
        self.came_ahead: dict[str, Tensor] = {}
        self.opened_weights = [n for n in program.online.graph.nodes if n.target is online.open_weight]
        self.revealed = [str(program.nodes[name].args[0]) for name, _ in program.outputs]

    # -- set-up --

    def setup_message(self, correlations: Mapping[str, Any]) -> Tensor | None:
        """The server's message: all masked weights. The client sends nothing."""
        self.fixed.update(correlations)
        if self.party == 1:
            return None
        execute([s for s in self.steps.setup if s.target is online.mask_with], self.fixed)
        parts = [self.fixed[str(n.args[0])].reshape(-1) for n in self.opened_weights]
        return self.device.on_host(torch.cat(parts)) if parts else self.device.buffer(0)

    def finish_setup(self, message: Tensor) -> None:
        """Both: keep the opened weights, run what depends on them only."""
        position, message = 0, self.device.on_it(message)
        for node in self.opened_weights:
            shape = tuple(node.meta["val"].shape)
            count = size_of(node)
            self.fixed[node.name] = message[position : position + count].reshape(shape)
            position += count
        execute([s for s in self.steps.setup if s.target is not online.mask_with], self.fixed)
        for name in self.fixed.keys() - lasting(self.program.online.graph):
            del self.fixed[name]  # masks of weights, as large as the weights themselves

    # -- one inference --

    def prepare(self, correlations: Mapping[str, Any]) -> None:
        """The offline phase: everything that does not need the input."""
        self.env = self.fixed | dict(correlations)
        execute(self.steps.offline, self.env)

    def ahead(self) -> Tensor:
        """What the client sends after it has prepared, before the input."""
        message = self.device.blank(self.program.ahead_words)
        for place in self.program.ahead:
            self.device.write(message, place, self.env[str(self.program.nodes[place.name].args[0])])
        return self.device.on_host(message)

    def take_ahead(self, received: Tensor) -> None:
        """At the server: the client's parts of openings that come before the input."""
        shapes = {place.name: tuple(self.program.nodes[place.name].meta["val"].shape) for place in self.program.ahead}
        message = self.device.on_it(received)
        self.came_ahead = {
            place.name: self.device.read(message, place).view(shapes[place.name]) for place in self.program.ahead
        }

    def start(self, inputs: Mapping[str, Tensor]) -> None:
        """The party's shares of the inputs, as ring integers on the host."""
        self.env.update({name: self.device.on_it(value) for name, value in inputs.items()})

    def message(self, index: int) -> Tensor:
        """Run up to exchange `index`; give what is sent."""
        execute(self.steps.segments[index], self.env)
        message = self.device.blank(self.program.messages[index].words(self.party))
        for opening in self.steps.exchanges[index]:
            if opening.mine is not None:
                self.device.write(message, opening.mine, self.env[opening.source])
        return self.device.on_host(message)

    def receive(self, index: int, received: Tensor) -> None:
        """Open: sums for arithmetic values, xor for bits. Above the bits that are opened nothing is meant.

        What only the server needs is None at the client.
        """
        message = self.device.on_it(received)
        for opening in self.steps.exchanges[index]:
            mine = self.env.pop(opening.source)
            if opening.theirs is not None:
                theirs = self.device.read(message, opening.theirs).view(opening.shape)
                self.env[opening.name] = mine ^ theirs if opening.bits else mine + theirs
            else:
                self.env[opening.name] = None if opening.way == "to_server" else mine + self.came_ahead.pop(opening.name)

    def outputs(self) -> list[Tensor]:
        """This party's shares of the outputs, on the host."""
        execute(self.steps.segments[-1], self.env)
        shares = [self.device.on_host(self.env[name]) for name in self.revealed]
        self.env = {}
        return shares


def decode(total: Tensor, scale: float) -> Tensor:
    """Ring integers as float32."""
    return (total.double() / scale).float()
