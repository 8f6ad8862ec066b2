"""A server and a dealer that serve without end: whatever clients and strangers do, the next client is served."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from mpcc.errors import PartyError, SecurityError
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.net import handshake as rules
from mpcc.runtime.net import listener
from mpcc.runtime.net.authority import make
from mpcc.runtime.net.connect import PeerConfig
from mpcc.runtime.net.handshake import Terms, receive, started
from mpcc.runtime.net.identity import Identity
from mpcc.runtime.net.messages import MOST_TEXT, Malformed, decode, printable
from mpcc.runtime.net.transport import HEADER, Phase
from mpcc.runtime.net.wire import Deadline, Wire
from mpcc.runtime.session import standalone, waiting
from tests.models.programs import SHAPE, program, sockets
from tests.runtime.test_standalone import Trio

MADE = program("relu")
TERMS = Terms(MADE.digest, "v1", None)
X = torch.linspace(-2, 2, 80).reshape(SHAPE)


class Service:
    """A server and a dealer in threads, without end; clients in this one."""

    def __init__(self, **common: Any) -> None:
        self.stop, self.notes = threading.Event(), list[str]()
        self.trio = Trio(sessions=None, stop=self.stop, notice=self.notes.append, **common)
        self.peers = self.trio.peers

    def start(self, *roles: str, **options: Any) -> None:
        for role in roles:
            self.trio.start(role, MADE, **options)

    def ask(self, **options: Any) -> None:
        """An honest client is answered, rightly."""
        client = Trio(connect_seconds=20.0)
        client.peers = self.peers
        client.start("client", MADE, inputs=[(X,)], **options)
        ended = client.join()["client"]
        assert isinstance(ended, list), (ended, self.notes)
        assert (ended[0].outputs[0] - Emulator(MADE)(X)[0]).abs().max() < 0.01

    def meet(self, peer: str, terms: Terms = TERMS) -> Wire:
        """What a client does first, and then as the test likes."""
        return PeerConfig("client", self.peers).meet(peer, terms)[0]

    def connect(self, peer: str) -> socket.socket:
        return PeerConfig("client", self.peers).connect_with_retry(peer).socket

    def turn(self, wire: Wire) -> str:
        """Wait for the turn; the session id."""
        kinds = "queued", "start"
        while (message := receive(wire, kinds, "test", Deadline(20)))["kind"] == "queued":
            pass
        return str(message["session id"])

    def join(self) -> tuple[Wire, Wire]:
        """A client that has come as far as the start of its session."""
        server = self.meet("server")
        session = self.turn(server)
        dealer = self.meet("dealer", Terms(MADE.digest, "v1", session))
        started(server, session)
        return server, dealer


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service(timeout=3.0)
    yield made
    made.stop.set()
    ended = made.trio.join()
    assert all(value == [] for value in ended.values()), ended


def dies_before_it_is_its_turn(service: Service) -> None:
    service.meet("server").close()


def dies_between_its_two_handshakes(service: Service) -> None:
    wire = service.meet("server")
    service.turn(wire)
    wire.close()


def greets_the_dealer_only(service: Service) -> None:
    service.meet("dealer", Terms(MADE.digest, "v1", "a" * 32)).close()


def dies_after_both(service: Service) -> None:
    for wire in service.join():
        wire.close()


def dies_with_the_dealer_alone_noticing(service: Service) -> None:
    server, dealer = service.join()
    dealer.close()
    service.notes.append(f"{server.gone()}")  # this end stays open


def dies_in_its_first_message(service: Service) -> None:
    server, dealer = service.join()
    server.write([HEADER.pack(1, Phase.ONLINE, 0, 0, 0, 640, 0.0), bytes(320)])
    server.close()
    dealer.close()


def stops_in_its_first_message(service: Service) -> None:
    """Silent after half of it, both connections open: given up after `timeout`."""
    server, dealer = service.join()
    server.write([HEADER.pack(1, Phase.ONLINE, 0, 0, 0, 640, 0.0), bytes(320)])
    service.notes.append(str(dealer.gone()))


def stops_in_a_header(service: Service) -> None:
    server, dealer = service.join()
    server.write([bytes([1])])
    service.notes.append(str(dealer.gone()))


def dies_in_an_inference(service: Service) -> None:
    def inputs() -> Iterator[tuple[torch.Tensor]]:
        yield (X,)
        raise RuntimeError("the user's own")

    client = Trio(connect_seconds=20.0)
    client.peers = service.peers
    client.start("client", MADE, inputs=inputs())
    assert isinstance(client.join()["client"], RuntimeError)


@pytest.mark.parametrize(
    "act",
    [
        dies_before_it_is_its_turn,
        dies_between_its_two_handshakes,
        greets_the_dealer_only,
        dies_after_both,
        dies_with_the_dealer_alone_noticing,
        dies_in_its_first_message,
        stops_in_its_first_message,
        stops_in_a_header,
        dies_in_an_inference,
    ],
)
def test_whatever_a_client_does_the_next_one_is_served(service: Service, act: Callable[[Service], None]) -> None:
    service.start("server", "dealer")
    for _ in range(2):
        act(service)
        service.ask()


def test_a_client_that_never_meets_the_dealer_is_dropped(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "START_SECONDS", 0.5)
    service.start("server", "dealer")
    service.turn(service.meet("server"))
    service.ask()
    assert any("the session did not begin" in note for note in service.notes)


def test_a_client_that_asks_nothing_is_dropped(service: Service) -> None:
    service.start("server", idle_seconds=0.5)
    service.start("dealer")
    wires = service.join()
    service.ask()
    assert any("client has been silent for 0.5 s" in note for note in service.notes), (service.notes, wires)


def test_nine_clients_back_to_back(service: Service) -> None:
    service.start("server", "dealer")
    for _ in range(9):
        service.ask()


def test_nine_clients_at_once_are_told_their_places(service: Service) -> None:
    service.start("server", "dealer")
    told: list[str] = []
    threads = [threading.Thread(target=service.ask, kwargs={"notice": told.append}) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert service.notes == [] and any("place 1 in its queue" in text for text in told), told


@pytest.mark.parametrize("role", ["server", "dealer"])
def test_a_role_that_restarts_is_found_again(role: str) -> None:
    """The one that restarts knows nothing of the sessions that the other has seen."""
    made = Service()
    other = "dealer" if role == "server" else "server"
    made.start(other)
    for _ in range(3):
        stop = threading.Event()
        fresh = Trio(sessions=None, stop=stop)
        fresh.peers = made.peers
        fresh.start(role, MADE)
        made.ask()
        made.ask()
        stop.set()
        assert fresh.join() == {role: []}
    made.stop.set()
    assert made.trio.join() == {other: []}


def test_a_dead_dealer_is_told_to_the_client(service: Service) -> None:
    service.start("server", connect_seconds=0.3)
    client = Trio(connect_seconds=0.3)
    client.peers = service.peers
    client.start("client", MADE, inputs=[(X,)])
    error = client.join()["client"]
    assert isinstance(error, PartyError) and "the dealer cannot be reached" in str(error)
    service.start("dealer")
    service.ask()


def test_a_full_queue_is_told(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_WAITING", 1)
    service.start("server", "dealer")
    served, waits = service.join(), service.meet("server")
    assert receive(waits, "queued", "test", Deadline(5))["ahead"] == 1
    with pytest.raises(PartyError, match="refused: the queue is full"):
        receive(service.meet("server"), "queued", "test", Deadline(5))
    for wire in (*served, waits):
        wire.close()
    service.ask()


# -- strangers --


@pytest.mark.parametrize("count", [3, 200])
def test_silent_connections_hold_nobody(service: Service, count: int) -> None:
    service.start("server", "dealer")
    held = [service.connect(role) for role in ("server", "dealer") for _ in range(count)]
    service.ask()
    for sock in held:
        sock.close()


def test_a_connection_that_trickles_is_dropped_in_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte every now and then: the limit is on the whole hello, not on each read."""
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 1.0)
    service.start("server", "dealer")
    sock = service.connect("server")
    with pytest.raises(OSError):
        for byte in struct.pack("<I", 400) + bytes(100):
            sock.sendall(bytes([byte]))
            assert not threading.Event().wait(0.3)
    service.ask()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<I", 2**31) + bytes(100),
        struct.pack("<I", 4000) + b"[" * 4000,
        struct.pack("<I", 16) + b'{"kind": "hello"',
        struct.pack("<I", 9) + b'{"a": []}',
        struct.pack("<I", 4) + b"\xff\xfe\xfd\xfc",
    ],
)
def test_rubbish_ends_nothing(service: Service, data: bytes) -> None:
    service.start("server", "dealer")
    for role in ("server", "dealer"):
        sock = service.connect(role)
        with suppress(OSError):  # it may be closed already
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
    service.ask()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make(folder / "good", 1)
    make(folder / "other", 1)
    return folder


def test_strangers_without_a_certificate_hold_nobody(keys: Path) -> None:
    made = Service()
    for role in ("server", "dealer"):
        made.start(role, identity=Identity.of(keys / "good", role))
    held = [made.connect(role) for role in ("server", "dealer") for _ in range(20)]
    wrong = PeerConfig("client", made.peers, Identity.of(keys / "other", "client"))
    with pytest.raises(SecurityError, match="could not be authenticated"):
        wrong.meet("server", TERMS)
    made.ask(identity=Identity.of(keys / "good", "client"))
    made.stop.set()
    assert made.trio.join() == {"server": [], "dealer": []}
    for sock in held:
        sock.close()


def test_notices_of_strangers_are_bounded() -> None:
    notes: list[str] = []
    notices = listener._Notices(notes.append)
    for number in range(500):
        notices.add(f"refused {number}")
    assert len(notes) == listener.NOTICES


def test_a_broken_log_closes_nothing(service: Service) -> None:
    def broken(text: str) -> None:
        raise BrokenPipeError

    service.start("server", notice=broken)
    service.start("dealer")
    for _ in range(3):
        service.connect("server").close()
    service.ask()


# -- what a peer may say --


def answered(hello: dict[str, Any]) -> str:
    """What the client makes of this answer to its hello."""
    one, other = sockets()
    data = json.dumps(hello).encode()
    one.sendall(struct.pack("<I", len(data)) + data)
    with pytest.raises((PartyError, SecurityError)) as caught:
        rules.handshake(Wire(other), "client", ("server",), TERMS)
    one.close()
    other.close()
    return str(caught.value)


HELLO = TERMS.hello("server")


@pytest.mark.parametrize("key", [key for key in HELLO if key != "kind"])
def test_a_hello_without_a_field_is_a_clear_error(key: str) -> None:
    assert f"the hello lacks '{key}'" in answered({k: v for k, v in HELLO.items() if k != key})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"session id": 5}, "a int as 'session id'"),
        ({"session id": "../../x"}, "invalid session id '../../x'"),
        ({"protocol": True}, "a bool as 'protocol'"),
        ({"model version": None}, "a NoneType as 'model version'"),
        ({"role": "dealer"}, "'dealer' answered"),
        ({"kind": "start"}, "'start' came where hello is due"),
        ({"model version": "\x1b[31mv2"}, "model version: v1 here, ?[31mv2 there"),
    ],
)
def test_a_hello_with_a_wrong_field_is_a_clear_error(change: dict[str, Any], said: str) -> None:
    assert said in answered(HELLO | change)


def test_a_refusal_is_shown_without_control_characters() -> None:
    said = answered({"kind": "refused", "reason": "\x1b]0;owned\x07\x1b[2J\u202eno\n" + "x" * 3000})
    assert said.isprintable() and "refused: ?]0;owned??[2J?no?" in said and len(said) < MOST_TEXT + 100


@pytest.mark.parametrize("data", [b"[" * 4000, b'{"a":' * 600, b"[]", b"1", b'{"a": {}}', b"\xff", b"x" * 5000, b""])
def test_what_is_no_flat_object_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data)


def test_printable_is_one_bounded_line() -> None:
    assert printable("a\nb\tc\x00\x9b") == "a?b?c??"
    assert printable("x" * 10_000) == "x" * MOST_TEXT + "..."
