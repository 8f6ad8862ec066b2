"""A small model served: bundles of it, and server, helper and dealer as threads of this process, with HTTP fronts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn

from mpcc.approximate import Plan
from mpcc.bundle import Bundle, open_bundle
from mpcc.client import Client
from mpcc.program import Program
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.executable import Executable
from mpcc.runtime.net.connect import PeerConfig, free_ports
from mpcc.serving.config import Http, Limits, ServeConfig
from mpcc.serving.local import HOST
from mpcc.serving.log import Log, Value
from mpcc.serving.run import SERVICES, front
from mpcc.serving.served import Served
from mpcc.serving.service import Service
from tests.models.programs import program

ROLES = ("dealer", "server", "helper")


def bundle(folder: Path, made: str | Program = "mixed") -> Bundle:
    """The bundle of a program, or of that of `tests.models.programs` with this name: without noise on its outputs."""
    Executable(program(made) if isinstance(made, str) else made, Plan({})).save(folder)
    return open_bundle(folder)


class Quiet(Log):
    """Keeps what is logged."""

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self.lines: list[dict[str, Value]] = []

    def __call__(self, event: str, **fields: Value) -> None:
        self.lines.append({"event": event, **fields})


@dataclass
class Trio:
    """The three roles of one replica."""

    bundle: Bundle
    limits: Limits = field(default_factory=lambda: Limits(batches=(1,)))
    pems: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    """Role -> its certificate for clients, and the key."""
    services: dict[str, Service] = field(default_factory=dict)
    fronts: dict[str, uvicorn.Server] = field(default_factory=dict)
    threads: dict[str, threading.Thread] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.addresses = {role: (HOST, port) for role, port in zip(("server", "dealer"), free_ports(2), strict=True)}
        plain = None, None
        self.http = {role: Http(HOST, free_ports(1)[0], *self.pems.get(role, plain)) for role in ("server", "helper")}
        whole, public = (Served.of(one, self.limits.batches) for one in (self.bundle, self.public()))
        self.served = {"server": whole, "helper": public, "dealer": public}

    def public(self) -> Bundle:
        """What helper and dealer have."""
        return open_bundle(self.bundle.folder / "public", weights=False)

    def url(self, role: str) -> str:
        return f"http{'s' if role in self.pems else ''}://{HOST}:{self.http[role].port}"

    def start(self, role: str) -> None:
        config = ServeConfig(PeerConfig(role, self.addresses, connect_seconds=2.0), self.http.get(role), self.limits)
        config.check() if role != "dealer" else None
        service = self.services[role] = SERVICES[role](self.served[role], config, Quiet(role))
        service.start()
        if config.http is not None:
            self._free(role)
            self.fronts[role] = front(service, config.http)
            self.threads[role] = threading.Thread(target=self.fronts[role].run, daemon=True)
            self.threads[role].start()

    def stop(self, role: str) -> None:
        self._free(role)
        self.services[role].stop()

    def _free(self, role: str) -> None:
        """End the front, whose port the next one takes."""
        if role in self.fronts:
            self.fronts.pop(role).should_exit = True
            self.threads.pop(role).join(10)

    def wait_ready(self, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not (all(s.state()[0] for s in self.services.values()) and all(f.started for f in self.fronts.values())):
            assert time.monotonic() < deadline, {role: service.log.lines for role, service in self.services.items()}  # type: ignore[attr-defined]
            time.sleep(0.02)

    def client(self, **options: Any) -> Client:
        return Client(self.url("server"), self.url("helper"), **options)

    def emulated(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        return Emulator(self.bundle.program)(*inputs)


@contextmanager
def serving(made: Bundle, pems: Mapping[str, tuple[Path, Path]] | None = None, **limits: Any) -> Iterator[Trio]:
    """All three roles, ready."""
    trio = Trio(made, Limits(**{"batches": (1,), "timeout": 10.0, **limits}), pems or {})
    try:
        for role in ROLES:
            trio.start(role)
        trio.wait_ready()
        yield trio
    finally:
        for role in trio.services:
            trio.stop(role)
