"""Parties that meet over the network: TLS, terms, strangers, a second client."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mpcc.errors import MpccError, PartyError, SecurityError, ShapeError, UsageError
from mpcc.program.program import Program
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.net.authority import make
from mpcc.runtime.net.connect import PeerConfig, parse_peers
from mpcc.runtime.net.handshake import Terms
from mpcc.runtime.net.identity import Identity
from mpcc.runtime.session.participant import Report
from mpcc.runtime.session.session import Outcome
from mpcc.runtime.session.standalone import PartyConfig, run_party
from tests.models.programs import SHAPE, dealt_bytes, program

ROLES = ("server", "client", "dealer")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make(folder / "good", 1)
    make(folder / "other", 1)
    return folder


class Trio:
    """run_party for each role, in a thread of its own; what each ended with."""

    def __init__(self, **common: Any) -> None:
        ports = []
        for _ in ROLES:
            with socket.create_server(("127.0.0.1", 0)) as server:
                ports.append(server.getsockname()[1])
        self.peers = parse_peers(",".join(f"127.0.0.1:{port}" for port in ports))
        self.common = {"connect_seconds": 4.0, "timeout": 10.0, "notice": lambda text: None} | common
        self.ended: dict[str, Any] = {}
        self.threads: list[threading.Thread] = []

    def config(self, role: str, options: dict[str, Any]) -> PartyConfig:
        reach = {key: options.pop(key) for key in ("identity", "connect_seconds") if key in options}
        return PartyConfig(PeerConfig(role, self.peers, **reach), **options)

    def start(self, role: str, made: Program, version: str = "v1", *, inputs: Any = (), **options: Any) -> None:
        def work() -> None:
            try:
                self.ended[role] = run_party(made, version, self.config(role, self.common | options), inputs)
            except BaseException as error:
                self.ended[role] = error

        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()

    def join(self) -> dict[str, Any]:
        for thread in self.threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self.threads)
        return self.ended


@pytest.mark.parametrize("insecure", [False, True])
def test_three_roles_over_tls(keys: Path, insecure: bool) -> None:
    made = program("mixed")
    inputs = [(torch.randn(SHAPE),) for _ in range(3)]
    trio = Trio(insecure_dealer=insecure)
    reports: list[Report] = []
    for role in ROLES[: 2 if insecure else 3]:
        more: dict[str, Any] = {"server": {"report": reports.append}, "client": {"inputs": inputs}}.get(role, {})
        trio.start(role, made, identity=Identity.of(keys / "good", role), **more)
    outcomes = trio.join()["client"]
    emulate = Emulator(made)
    for outcome, (x,), report in zip(outcomes, inputs, reports, strict=True):
        assert isinstance(outcome, Outcome)
        assert (outcome.rounds, outcome.bytes) == (made.cost.rounds, made.cost.bytes) == (report.rounds, report.bytes)
        assert outcome.offline_bytes == dealt_bytes(made, 1) + made.cost.ahead_bytes
        assert (outcome.outputs[0] - emulate(x)[0]).abs().max() < 0.01
    assert trio.ended["server"] == []


def test_another_program_on_one_side_is_named(keys: Path) -> None:
    trio = Trio()
    trio.start("dealer", program("linear"))
    trio.start("server", program("linear"))
    trio.start("client", program("relu"))
    ended = trio.join()
    assert all(isinstance(error, MpccError) for error in ended.values())
    assert isinstance(ended["client"], SecurityError) and "program digest" in str(ended["client"])
    assert "was refused: program digest" in str(ended["server"])


def test_another_model_version_is_named() -> None:
    trio = Trio(insecure_dealer=True)
    made = program("relu")
    trio.start("server", made, "v1")
    trio.start("client", made, "v2")
    for error in trio.join().values():
        assert isinstance(error, MpccError) and "model version: v" in str(error)


def test_a_stranger_is_turned_away_and_the_session_goes_on(keys: Path) -> None:
    made = program("relu")
    notes: list[str] = []
    trio = Trio(insecure_dealer=True, notice=notes.append)
    trio.start("server", made, identity=Identity.of(keys / "good", "server"))
    stranger = Trio(insecure_dealer=True)
    stranger.peers = trio.peers
    stranger.start("client", made, identity=Identity.of(keys / "other", "client"))
    error = stranger.join()["client"]
    assert isinstance(error, SecurityError) and "could not be authenticated" in str(error)
    trio.start("client", made, identity=Identity.of(keys / "good", "client"), inputs=[(torch.randn(SHAPE),)])
    ended = trio.join()
    assert ended["server"] == [] and len(ended["client"]) == 1
    assert len(notes) == 1 and "refused 127.0.0.1" in notes[0]


def test_who_connects_and_hangs_up_does_not_end_the_wait() -> None:
    """As whatever looks for open ports does."""
    made, notes = program("relu"), list[str]()
    trio = Trio(insecure_dealer=True, notice=notes.append, connect_seconds=10.0)
    trio.start("server", made)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not notes:
        try:
            socket.create_connection(trio.peers["server"]).close()
        except ConnectionRefusedError:
            pass
        time.sleep(0.05)
    assert notes and "refused 127.0.0.1" in notes[0]
    trio.start("client", made, inputs=[(torch.randn(SHAPE),)])
    ended = trio.join()
    assert ended["server"] == [] and len(ended["client"]) == 1


def test_a_plain_connection_to_a_tls_listener_is_refused_and_explained(keys: Path) -> None:
    made = program("relu")
    trio = Trio(insecure_dealer=True, connect_seconds=2.0)
    trio.start("server", made, identity=Identity.of(keys / "good", "server"))
    with pytest.raises(PartyError, match="expects TLS"):
        PeerConfig("client", trio.peers).meet("server", Terms(made.digest, "v1", None, True))
    error = trio.join()["server"]
    assert isinstance(error, PartyError) and "did not come; 127.0.0.1 was refused" in str(error)


def test_a_client_that_fails_is_heard_by_all() -> None:
    made = program("relu")
    trio = Trio()
    trio.start("dealer", made)
    trio.start("server", made)
    trio.start("client", made, inputs=[(torch.randn(2, 2),)])
    ended = trio.join()
    assert isinstance(ended["client"], ShapeError)
    for role in ("server", "dealer"):
        assert isinstance(ended[role], PartyError) and "the input has shape (2, 2)" in str(ended[role])


def test_nobody_there() -> None:
    trio = Trio(connect_seconds=0.3)
    start = time.monotonic()
    for role in ("client", "server"):
        trio.start(role, program("local"))
    for role, error in trio.join().items():
        assert isinstance(error, PartyError) and "dealer does not answer at 127.0.0.1" in str(error), role
    assert time.monotonic() - start < 10


def test_links_to_other_machines_need_tls() -> None:
    peers = parse_peers("10.1.2.3:7000,10.1.2.4:7001,10.1.2.5:7002")
    with pytest.raises(SecurityError, match="needs TLS"):
        run_party(program("local"), "v1", PartyConfig(PeerConfig("client", peers)))


@pytest.mark.parametrize("text", ["a:1", "a,b,c", "a:1,b:2,c:70000", "a:1,b:x"])
def test_peers_are_host_and_port(text: str) -> None:
    with pytest.raises(UsageError, match="host:port"):
        parse_peers(text)


def test_peers_by_role() -> None:
    assert parse_peers("a:1, b:2,[::1]:3") == {"server": ("a", 1), "client": ("b", 2), "dealer": ("::1", 3)}
