"""Small programs of each kind, lowered from functions over the mpc primitives, and parties run as threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from mpcc.calibration.ranges import record_ranges
from mpcc.ir import mpc
from mpcc.ir.info import info_of, scale_of
from mpcc.ir.nn import size_of
from mpcc.ir.trace import Recorder
from mpcc.lowering import Settings, lower
from mpcc.program.program import Program
from mpcc.runtime.dealer.dealing import Dealer, FromDealer, ServerDeals, SessionSeeds
from mpcc.runtime.device.device import CPU, Device
from mpcc.runtime.engine.evaluate import decode, encode_tensor
from mpcc.runtime.engine.inference import Inference
from mpcc.runtime.net.transport import Channel, LinkModel, Peers, Tap
from mpcc.runtime.net.wire import Wire

SHAPE = (1, 5, 16)


EXACT = Settings(answers=0)
"""No noise on the outputs, so that a run can be held against the emulation."""


def dealt_bytes(made: Program, party: int) -> int:
    """What the dealer sends a party for one inference."""
    phases = {share: info_of(made.nodes[share]).phase for share in made.dealt_to}
    return sum(8 * size_of(made.nodes[s]) for s, to in made.dealt_to.items() if party in to and phases[s] != "setup")


def build(function: Callable[..., Any], shape: tuple[int, ...] = SHAPE, settings: Settings = EXACT, **weights: Tensor) -> Program:
    """The online program of `function(x, *weights)`, calibrated on normal inputs."""
    return lower(graph_of(function, shape, **weights), settings)


def graph_of(function: Callable[..., Any], shape: tuple[int, ...] = SHAPE, **weights: Tensor) -> fx.GraphModule:
    """The mpc-level graph, with its ranges."""
    root = nn.Module()
    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(shape, device="meta")
    nodes = [x]
    for name, value in weights.items():
        root.register_buffer(name, value)
        nodes.append(graph.get_attr(name))
        nodes[-1].meta["val"] = torch.empty(value.shape, device="meta")
    recorder = Recorder(graph, {"site": "s", "layer": "l"})
    graph.output(recorder.call(function, *nodes))
    module = fx.GraphModule(root, graph)
    torch.manual_seed(0)
    record_ranges(module, torch.randn(16, *shape[1:]))
    return module


def linear(x: Any, w: Any, b: Any) -> Any:
    return mpc.linear(x, w, b)


def mixed(x: Any, w: Any, b: Any) -> Any:
    """A linear layer, a square, a comparison, a selection, a product: every kind of message."""
    y = mpc.linear(x, w, b)
    gate = mpc.select(mpc.less(y, 0.25), mpc.square(y))
    return mpc.add(mpc.mul(gate, y), mpc.polynomial(y, (0.1, 0.5, 0.25)))


PARABOLAS = tuple((place**2, 2 * place, 1.0) for place in range(-8, 8))
"""x^2 by pieces that agree wherever both hold, so that a run's choice among them makes no difference."""


def waved(x: Any, w: Any, b: Any) -> Any:
    """The square of a linear layer by a spline gate, and a product with it."""
    y = mpc.linear(x, w, b)
    return mpc.mul(mpc.curve(y, -8.0, 1.0, PARABOLAS), y)


def weights(seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(8, 16, generator=generator) / 4, "b": torch.randn(8, generator=generator)}


def program(name: str) -> Program:
    match name:
        case "local":
            return build(lambda x: mpc.add(mpc.scale(x, 0.3), mpc.add(x, 1.5)))
        case "linear":
            return build(linear, **weights())
        case "relu":
            return build(lambda x: mpc.relu(x))
        case "polynomial":
            return build(lambda x: mpc.polynomial(x, (1.0, 0.5, 0.25, 0.1, 0.03)))
        case "curve":
            return build(waved, **weights())
        case "mixed":
            return build(mixed, **weights())
    raise KeyError(name)


NAMES = ("local", "linear", "relu", "polynomial", "curve", "mixed")


def sockets() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


@dataclass
class Threads:
    """A session whose parties and dealer are threads of this process, over real TCP."""

    program: Program
    insecure: bool = False
    link: LinkModel | None = None
    taps: Mapping[str, Tap] = field(default_factory=dict)
    timeout: float = 20.0
    devices: Mapping[str, Device] = field(default_factory=dict)
    """Of each role; the CPU where none is named."""
    seeds: SessionSeeds = field(default_factory=SessionSeeds.fresh)
    errors: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> Threads:
        self.peers = {name: Peers(name) for name in ("server", "client", "dealer")}
        self.between = self._pair("server", "client", self.link)
        self.inferences: dict[str, Inference] = {}
        if self.insecure:
            materials: dict[str, Any] = {
                "server": ServerDeals(self.program, self.between["server"], self._device("server")),
                "client": FromDealer(self.program, 1, self.between["client"], credit=False, device=self._device("client")),
            }
        else:
            first, second = self._pair("server", "dealer"), self._pair("client", "dealer")
            dealer = Dealer(self.program, first["dealer"], second["dealer"], device=self._device("dealer"))
            dealer.seeds = self.seeds
            self.dealing = {"server": first["server"], "client": second["client"]}
            materials = {
                "server": FromDealer(self.program, 0, first["server"], device=self._device("server")),
                "client": FromDealer(self.program, 1, second["client"], device=self._device("client")),
            }
            self.threads = [threading.Thread(target=self._guard, args=(dealer.serve,))]
            self.threads[0].start()
        for party, name in enumerate(("server", "client")):
            self.inferences[name] = Inference(
                self.program, party, self.between[name], materials[name], device=self._device(name)
            )
        self._both(lambda inference: inference.set_up())
        self._both(lambda inference: inference.prepare())
        return self

    def run(self, *inputs: Tensor) -> list[Tensor]:
        encoded = [encode_tensor(x, scale_of(n)) for x, n in zip(inputs, self.program.inputs(), strict=True)]
        totals: list[Tensor] = []

        def one(inference: Inference) -> None:
            result = inference.run(encoded if inference.party == 1 else None)
            if inference.party == 1:
                totals.extend(result)
            inference.prepare()

        self._both(one)
        return [decode(t, scale) for t, (_, scale) in zip(totals, self.program.outputs, strict=True)]

    def __exit__(self, *_: object) -> None:
        leaving = [threading.Thread(target=peers.leave) for peers in self.peers.values()]
        for thread in leaving:
            thread.start()
        for thread in leaving + getattr(self, "threads", []):
            thread.join(10)

    def _device(self, role: str) -> Device:
        return self.devices.get(role, CPU)

    def _pair(self, one: str, other: str, link: LinkModel | None = None) -> dict[str, Channel]:
        ends = zip((one, other), (other, one), sockets(), strict=True)
        options: dict[str, Any] = {"link": link, "timeout": self.timeout}
        return {
            me: Channel(Wire(sock), peer, self.peers[me], tap=self.taps.get(f"{me}-{peer}"), **options)
            for me, peer, sock in ends
        }

    def _both(self, action: Callable[[Inference], None]) -> None:
        threads = [threading.Thread(target=self._guard, args=(action, i)) for i in self.inferences.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if self.errors:
            raise self.errors[0]

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except BaseException as error:
            self.errors.append(error)
