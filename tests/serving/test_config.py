"""serve.toml and the options of the roles."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpcc.errors import SecurityError, UsageError
from mpcc.runtime.net.authority import make
from mpcc.serving.config import Http, Limits, peers_of, read

WHOLE = """
role = "server"
[peers]
server = "server-{replica}.a.example:7000"
dealer = "dealer-{replica}.c.example:7000"
tls = "keys/server"
[http]
host = "127.0.0.1"
port = 8443
origins = ["https://page.example"]
[limits]
batches = [1, 8]
in-flight = 3
pool-megabytes = 64
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "serve.toml"
    path.write_text(text)
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    make(tmp_path / "keys", 1)
    made = read(written(tmp_path, WHOLE), replica=2)
    made.check()
    assert made.peers.addresses == {"server": ("server-2.a.example", 7000), "dealer": ("dealer-2.c.example", 7000)}
    assert made.http is not None and made.http.port == 8443 and made.http.origins == ("https://page.example",)
    assert (made.limits.batches, made.limits.in_flight, made.replica) == ((1, 8), 3, 2)
    assert read(written(tmp_path, WHOLE), role="helper").role == "helper"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("what = 1", "unknown: what"),
        ("[limits]\nbatch = [1]", "unknown: limits.batch"),
        ("[peers]\nserver = 'a'", "not HOST:PORT"),
        ("[http]\nport = 'x'", "wrong type"),
        ("[limits]\nbatches = 3", "wrong type"),
        ("peers = 3", "wrong type"),
        ("= 1", "cannot be read"),
        ("role = 'cook'", "unknown role 'cook'"),
        ("role = 'server'", "no address of the server and the dealer"),
        ("role = 'server'\n[peers]\nserver = '127.0.0.1:1'\ndealer = '127.0.0.1:2'", "say where"),
        ("role = 'dealer'\n[peers]\ndealer = '127.0.0.1:2'\n[limits]\nqueue = 0", "queue is 0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(written(tmp_path, text)).check()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "none.toml")


def test_links_to_other_machines_need_tls(tmp_path: Path) -> None:
    text = WHOLE.replace('tls = "keys/server"', "")
    with pytest.raises(SecurityError, match="another machine needs TLS"):
        read(written(tmp_path, text)).check()


def test_shares_do_not_cross_a_network_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(SecurityError, match="unencrypted"):
        Http(host="0.0.0.0").check()
    Http(host="0.0.0.0", allow_plain=True).check()
    with pytest.raises(UsageError, match="no such file"):
        Http(certificate=tmp_path / "a", key=tmp_path / "b").check()
    with pytest.raises(UsageError, match="needs its key"):
        Http(certificate=tmp_path / "a").check()


@pytest.mark.parametrize("text", ["", "server", "server=a", "cook=a:1", "server=a:0", "server=a:b"])
def test_peers_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        peers_of(text)


def test_batches_fit_into_the_pool() -> None:
    limits = Limits(batches=(1, 4, 16), in_flight=2, ahead=1, pool_megabytes=1000)
    found = [limits.within(size) for size in (1_000_000, 20_000_000, 10**8, 10**10)]
    assert [(one.batches, one.in_flight) for one in found] == [((1, 4, 16), 2), ((1, 4), 2), ((1,), 2), ((1,), 1)]
