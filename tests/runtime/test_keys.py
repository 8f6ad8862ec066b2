"""Certificates: further clients of one authority, revoked ones, expired ones."""

from __future__ import annotations

import shutil
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcc.errors import MpccError, SecurityError, UsageError
from mpcc.runtime.net import identity
from mpcc.runtime.net.authority import Authority, make, make_client
from mpcc.runtime.net.identity import Identity
from mpcc.runtime.net.wire import TlsWire
from tests.models.programs import sockets
from tests.runtime.test_service import MADE, Service, X
from tests.runtime.test_standalone import Trio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ca, keys/server, keys/client, keys/dealer; later also alice."""
    make(tmp_path / "keys", 1, Authority.made(tmp_path / "ca"))
    make_client(tmp_path / "alice", "alice", 1, Authority.read(tmp_path / "ca"))
    return tmp_path


def test_a_further_client_has_its_own_key_and_can_be_revoked(folder: Path) -> None:
    """While the service runs: the next handshake sees the list. The other client is served on."""
    service = Service()
    for role in ("server", "dealer"):
        service.start(role, identity=Identity.of(folder / "keys", role))
    alice, other = Identity.of(folder / "alice", "client"), Identity.of(folder / "keys", "client")
    assert alice.key.read_bytes() != other.key.read_bytes()
    service.ask(identity=alice)
    service.ask(identity=other)
    revoked = Authority.read(folder / "ca").revoke("alice")
    for role in ("server", "dealer"):
        shutil.copy(revoked, folder / "keys" / role)
    client = Trio(connect_seconds=2.0)
    client.peers = service.peers
    client.start("client", MADE, inputs=[(X,)], identity=alice)
    error = client.join()["client"]
    assert isinstance(error, MpccError) and "this certificate has been revoked" in str(error)
    service.ask(identity=other)
    service.stop.set()
    assert service.trio.join() == {"server": [], "dealer": []}
    assert any("revoked certificate" in note for note in service.notes)


def test_a_name_is_given_once_and_is_plain(folder: Path) -> None:
    authority = Authority.read(folder / "ca")
    with pytest.raises(UsageError, match="has a certificate already"):
        make_client(folder / "again", "alice", 1, authority)
    for name in ("", "a b", "../x", "-", "a\n", "x" * 65):
        with pytest.raises(UsageError, match="invalid name"):
            make_client(folder / "again", name, 1, authority)
    with pytest.raises(UsageError, match="no certificate of 'bob'"):
        authority.revoke("bob")


def test_private_files_and_nothing_overwritten(folder: Path) -> None:
    for path in (folder / "ca").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert (folder / "ca").stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="never overwritten"):
        make(folder / "keys", 1)
    with pytest.raises(UsageError, match="never overwritten"):
        Authority.made(folder / "ca")


def meet(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """What each side of a TLS handshake, and of a read after it, ends with."""
    ends, ended = dict(zip(("server", "client"), sockets(), strict=True)), dict[str, Any]()

    def side(role: str, context: ssl.SSLContext) -> None:
        try:
            wire = TlsWire(ends[role], context, ("server", "client"), server=role == "server")
            wire.read_into(memoryview(bytearray(1)))
        except (MpccError, EOFError) as error:
            ended[role] = error
            ends[role].close()

    threads = [threading.Thread(target=side, args=pair) for pair in (("server", server), ("client", client))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return ended


def test_an_expired_certificate_is_told_as_expired(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To its holder before it connects; and, where its clock is wrong, by the other side, to both."""
    authority = Authority.read(folder / "ca")
    authority.issue("client", folder / "old", -2)
    expired = Identity.of(folder / "old", "client")
    with pytest.raises(SecurityError, match="our certificate expired on 20.*") as caught:
        expired.context(server=False)
    assert "mpcc keys" in str(caught.value)
    monkeypatch.setattr(identity, "_expires", lambda path: identity.datetime.max.replace(tzinfo=identity.UTC))
    ended = meet(Identity.of(folder / "keys", "server").context(server=True), expired.context(server=False))
    assert "the certificate of the server or client has expired" in str(ended["server"])
    assert "says that our certificate has expired" in str(ended["client"])


@pytest.mark.parametrize("text", ["xyz\n", "12 34\n", "é\n"])
def test_an_unreadable_list_lets_nobody_in(folder: Path, text: str) -> None:
    place = folder / "keys" / "server"
    (place / "revoked.txt").write_text(text)
    with pytest.raises(SecurityError, match="list of revoked certificates is unreadable"):
        Identity.of(place, "server").refuses(1)


def test_the_list_takes_comments_and_colons(folder: Path) -> None:
    place = folder / "keys" / "server"
    assert not Identity.of(place, "server").refuses(0xAB)
    (place / "revoked.txt").write_text("# of last year\n\nAB  # alice\n0c:0d\n")
    mine = Identity.of(place, "server")
    assert mine.refuses(0xAB) and mine.refuses(0x0C0D) and not mine.refuses(0xAC)


@pytest.mark.parametrize("break_it", [lambda p: p.unlink(), lambda p: p.write_text("no key")])
def test_a_folder_that_is_no_authority(folder: Path, break_it: Callable[[Path], Any]) -> None:
    break_it(folder / "ca" / "key.pem")
    with pytest.raises(SecurityError, match="not the folder of an authority"):
        Authority.read(folder / "ca")
