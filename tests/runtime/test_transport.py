"""Channels: counting, posted buffers, dead peers, replays, refusals, over plain TCP and TLS."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mpcc.errors import PartyError, SecurityError
from mpcc.runtime.dealer.dealing import FromDealer, ReplayGuard
from mpcc.runtime.net import transport
from mpcc.runtime.net.authority import make
from mpcc.runtime.net.handshake import Terms, handshake
from mpcc.runtime.net.identity import Identity
from mpcc.runtime.net.transport import ABORT, DATA, DIRECT, HEADER, Channel, LinkModel, PeerLeft, Peers, Phase, Slot, empty
from mpcc.runtime.net.wire import TlsWire, Wire
from tests.models.programs import dealt_bytes, program, sockets


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make(folder, 1)
    return folder


def tls_pair(keys: Path, client: str = "client", expected: str = "client") -> tuple[Wire, Wire]:
    one, other = sockets()
    made: list[Any] = [None]

    def serve() -> None:
        try:
            made[0] = TlsWire(one, Identity.of(keys, "server").context(server=True), [expected], server=True)
        except Exception as error:
            made[0] = error
            one.close()

    thread = threading.Thread(target=serve)
    thread.start()
    folder = keys if client else keys / "other"
    try:
        wire = TlsWire(other, Identity.of(folder, client or "client").context(server=False), ["server"], server=False)
    finally:
        thread.join(5)
    if isinstance(made[0], Exception):
        other.close()
        raise made[0]
    return made[0], wire


@pytest.fixture(params=["plain", "tls"])
def channels(request: pytest.FixtureRequest, keys: Path) -> Iterator[tuple[Channel, Channel]]:
    if request.param == "plain":
        one, other = sockets()
        wires: tuple[Wire, Wire] = (Wire(one), Wire(other))
    else:
        wires = tls_pair(keys)
    pair = Channel(wires[0], "b", Peers("a"), timeout=5.0), Channel(wires[1], "a", Peers("b"), timeout=5.0)
    yield pair
    for channel in pair:
        channel.close()


def slot(place: int = 0, number: int = 0) -> Slot:
    return Slot(Phase.ONLINE, number, place)


@pytest.mark.parametrize("words", [1, 1000, 300_000])
def test_both_directions_at_once_into_posted_buffers(channels: tuple[Channel, Channel], words: int) -> None:
    sent = [torch.randint(-(2**62), 2**62, (words,)) for _ in channels]
    got = [empty(words) for _ in channels]
    for place in range(3):
        for channel, value, buffer in zip(channels, sent, got, strict=True):
            channel.post(slot(place), buffer)
            channel.send(slot(place), value)
        for channel in channels:
            channel.receive(slot(place))
        assert torch.equal(got[0], sent[1]) and torch.equal(got[1], sent[0])
    counted = channels[0].traffic[Phase.ONLINE, 0]
    assert (counted.rounds, counted.sent_bytes, counted.received_bytes) == (3, 24 * words, 24 * words)
    assert channels[1].wire.received > 24 * words


def test_messages_that_come_before_they_are_posted_wait(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    for place in range(50):
        one.send(slot(place), torch.full((3,), place))
    time.sleep(0.05)
    for place in range(50):
        buffer = empty(3)
        other.post(slot(place), buffer)
        other.receive(slot(place))
        assert buffer.tolist() == [place] * 3


def test_a_dead_peer_ends_the_wait(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    other.post(slot(), empty(3))
    threading.Timer(0.2, one.wire.close).start()
    start = time.monotonic()
    with pytest.raises(PartyError, match="a ended unexpectedly|a is lost"):
        other.receive(slot())
    assert time.monotonic() - start < 2


def test_a_silent_peer_is_given_up(channels: tuple[Channel, Channel]) -> None:
    channels[0].timeout = 0.2
    channels[0].post(slot(), empty(1))
    with pytest.raises(PartyError, match="silent for 0.2 s"):
        channels[0].receive(slot())


def test_a_failing_peer_says_why(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    other.post(slot(), empty(3))
    one.peers.abort(PartyError("the dealer ended unexpectedly"))
    with pytest.raises(PartyError, match="b, waiting for .*: the dealer ended"):
        other.receive(slot())


def test_the_inside_of_an_error_stays_inside(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    other.post(slot(), empty(3))
    one.peers.abort(ValueError("weight 0.123"))
    with pytest.raises(PartyError) as caught:
        other.receive(slot())
    assert "internal error (ValueError)" in str(caught.value) and "0.123" not in str(caught.value)


def test_a_reason_is_shown_without_control_characters(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    other.post(slot(), empty(3))
    one.end(ABORT, b'{"what": "\\u001b[2J gone \\u0007", "security": false}')
    with pytest.raises(PartyError) as caught:
        other.receive(slot())
    assert "?[2J gone ?" in str(caught.value) and caught.value.what.isprintable()


@pytest.mark.parametrize("data", [b"[" * 3000, b"{}", b'{"what": {}, "security": true}', b"\xff", b""])
def test_an_unreadable_reason_is_a_failure_all_the_same(channels: tuple[Channel, Channel], data: bytes) -> None:
    one, other = channels
    other.post(slot(), empty(3))
    one.end(ABORT, data)
    with pytest.raises(PartyError, match="an unreadable reason"):
        other.receive(slot())


@pytest.mark.parametrize("count", [1, HEADER.size, HEADER.size + 12])
def test_a_message_that_has_begun_must_end(channels: tuple[Channel, Channel], count: int) -> None:
    """Also where the receiver would wait for ever for its begin."""
    one, other = channels
    other.timeout = 0.3
    other.post(slot(), empty(3))
    message = HEADER.pack(DATA, Phase.ONLINE, 0, 0, 0, 24, 0.0) + bytes(24)
    for sealed in one.wire.sealed([message[:count]]):
        one.wire.write(sealed)
    with pytest.raises(PartyError, match="stopped in the middle of a message"):
        other.receive(slot(), forever=True)


def test_an_idle_peer_is_no_failure_within_its_limit(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    other.timeout, other.idle = 0.2, 0.8
    other.post(slot(), empty(1))
    threading.Timer(0.5, one.send, (slot(), torch.ones(1, dtype=torch.int64))).start()
    other.receive(slot(), forever=True)
    other.post(slot(1), empty(1))
    with pytest.raises(PartyError, match="silent for 0.8 s"):
        other.receive(slot(1), forever=True)


def test_what_a_peer_does_not_read_fills_no_memory(
    channels: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender waits, until the peer reads or fails."""
    monkeypatch.setattr(transport, "MOST_QUEUED", 1 << 20)
    one, _ = channels
    sent, ended = [0], list[PartyError]()

    def send() -> None:
        try:
            for place in range(10_000):
                one.send(slot(place), empty(DIRECT // 4))
                sent[0] = place
        except PartyError as error:
            ended.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    deadline = time.monotonic() + 20
    while one._queued < 1 << 19 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert 1 << 19 <= one._queued <= 1 << 20 and sent[0] < 1000
    one.peers.fail(PartyError("the session is over"))
    thread.join(5)
    assert not thread.is_alive() and "the session is over" in str(ended[0])


def test_goodbye_is_no_failure(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    other.post(slot(), empty(3))
    threading.Thread(target=one.peers.leave).start()
    with pytest.raises(PeerLeft):
        other.receive(slot(), forever=True)
    other.peers.leave()


@pytest.mark.parametrize(
    ("sent", "words"), [(slot(0, 4), 3), (slot(1, 5), 3), (slot(0, 5), 4), (Slot(Phase.DEAL, 5), 3)]
)
def test_what_is_not_due_is_refused(channels: tuple[Channel, Channel], sent: Slot, words: int) -> None:
    one, other = channels
    other.post(slot(0, 5), empty(3))
    one.send(sent, torch.zeros(words, dtype=torch.int64))
    with pytest.raises(SecurityError, match="is due" + (": a replay" if sent.number == 4 else "")):
        other.receive(slot(0, 5))


def test_a_certificate_of_another_role_is_refused(keys: Path) -> None:
    with pytest.raises(SecurityError, match="is that of 'dealer', client was expected"):
        tls_pair(keys, client="dealer")


def test_a_certificate_of_another_authority_is_refused(keys: Path) -> None:
    make(keys / "other", 1)
    with pytest.raises(SecurityError, match="could not be authenticated"):
        tls_pair(keys, client="")


def test_missing_certificates_are_named(tmp_path: Path) -> None:
    with pytest.raises(SecurityError, match="mpcc keys"):
        Identity.of(tmp_path, "server").context(server=True)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("program", "f" * 64, "program digest: aaaaaaaaaaaaaaaa... here, ffffffffffffffff... there"),
        ("model", "v2", "model version: v1 here, v2 there"),
        ("session", "b" * 32, "session id: aaaaaaaaaaaaaaaa... here, bbbbbbbbbbbbbbbb... there"),
        ("insecure_dealer", True, "insecure dealer: False here, True there"),
    ],
)
def test_terms_that_differ_are_named_on_both_sides(field: str, value: Any, said: str) -> None:
    terms = {"program": "a" * 64, "model": "v1", "session": "a" * 32, "insecure_dealer": False}
    one, other = (Wire(sock) for sock in sockets())
    errors: list[Exception] = []

    def there() -> None:
        try:
            handshake(other, "client", ["server"], Terms(**(terms | {field: value})))  # type: ignore[arg-type]
        except SecurityError as error:
            errors.append(error)

    thread = threading.Thread(target=there)
    thread.start()
    with pytest.raises(SecurityError, match=said.replace(".", r"\.")):
        handshake(one, "server", ["client"], Terms(**terms))  # type: ignore[arg-type]
    thread.join(5)
    assert len(errors) == 1
    one.close()
    other.close()


def test_a_replaying_dealer_is_refused() -> None:
    """The client expects the material of inference 1 and gets that of inference 0 again."""
    made = program("relu")
    one, other = sockets()
    dealer, client = Channel(Wire(one), "client", Peers("d")), Channel(Wire(other), "dealer", Peers("c"))
    material = FromDealer(made, 1, client)
    words = dealt_bytes(made, 1) // 8
    dealer.send(Slot(Phase.SEED), empty(4))
    for credit in range(2):
        dealer.post(Slot(Phase.CREDIT, credit), empty(0))
    for _ in range(2):
        dealer.send(Slot(Phase.DEAL, 0), torch.zeros(words, dtype=torch.int64))
    material.setup()
    material.inference(0)
    with pytest.raises(SecurityError, match="a replay"):
        material.finished(0)
        material.inference(1)
    dealer.close()
    client.close()


def test_an_emulated_link_delivers_one_message_after_another_half_a_round_trip_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that stands still, so that nothing else is in what a message is due at."""
    monkeypatch.setattr(transport, "time", SimpleNamespace(monotonic=lambda: 100.0, sleep=time.sleep))
    one, other = sockets()
    link = LinkModel(rtt_seconds=0.2, bandwidth_bytes_per_s=1000.0)
    channel = Channel(Wire(one), "client", Peers("server"), link=link)
    found = [channel._due(size) for size in (100 - HEADER.size, 300 - HEADER.size)]
    assert found == pytest.approx([100.0 + 0.1 + 0.1, 100.0 + 0.1 + 0.3 + 0.1])
    channel.close()
    other.close()


def test_numbers_only_go_up() -> None:
    guard = ReplayGuard()
    guard.use(0)
    guard.use(3)
    for number in (3, 2, 0):
        with pytest.raises(SecurityError, match="used already"):
            guard.use(number)
