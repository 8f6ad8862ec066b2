"""Server, helper and dealer with clients over HTTP: right answers, clear refusals, and roles that go and come back."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from mpcc.client import Client
from mpcc.errors import SecurityError
from tests.models.programs import SHAPE
from tests.models.served import Trio, bundle, serving


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    made = bundle(tmp_path_factory.mktemp("served") / "mixed.mpcc")
    with serving(made, pair_seconds=1.0) as running:
        yield running


def post(trio: Trio, role: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any, dict[str, str]]:
    """Status, body (JSON where it is) and headers of POST /v1/infer."""
    connection = http.client.HTTPConnection("127.0.0.1", trio.http[role].port, timeout=20)
    try:
        connection.request("POST", "/v1/infer", body, headers or {})
        answer = connection.getresponse()
        found: Any = answer.read()
        if answer.getheader("Content-Type") == "application/json":
            found = json.loads(found)
        return answer.status, found, {key.lower(): value for key, value in answer.getheaders()}
    finally:
        connection.close()


def body(trio: Trio, number: bytes | None = None) -> bytes:
    """A request whose share is random: of no input at all."""
    served = trio.served["server"]
    number = secrets.token_bytes(16) if number is None else number
    return number + bytes.fromhex(served.digest)[:16] + secrets.token_bytes(8 * served.input_words)


def test_answers_are_those_of_the_emulation(trio: Trio) -> None:
    with trio.client() as client:
        for _ in range(4):
            x = torch.randn(SHAPE)
            (expected,) = trio.emulated(x)
            answer = client.ask(x.numpy())
            assert np.abs(answer.output - expected.numpy()).max() < 5e-3  # of values up to 20


def test_bytes_of_an_answer(trio: Trio) -> None:
    """What the client sends and receives, headers included: at most three times input and output as 64-bit words, where these
    are not tiny."""
    with trio.client() as client:
        client.ask(np.zeros(SHAPE))
        before = client.traffic
        client.ask(np.zeros(SHAPE))
        served = trio.served["server"]
        used = sum(client.traffic) - sum(before)
        assert used <= 3 * 8 * (served.input_words + served.output_words)


@pytest.mark.parametrize("role", ["server", "helper"])
def test_requests_that_are_refused(trio: Trio, role: str) -> None:
    whole = body(trio)
    wrong_model = whole[:16] + bytes(16) + whole[32:]
    cases = [
        (b"", 400), (b"x", 400), (bytes(200_000), 400),
        (whole[:-1], 400), (whole + b"x", 400), (wrong_model, 409), (bytes(16) + whole[16:], 400),
    ]  # fmt: skip
    for sent, status in cases:
        found, answer, _ = post(trio, role, sent)
        assert found == status and answer["error"], (len(sent), answer)
    status, answer, _ = post(trio, role, b"", {"Transfer-Encoding": "chunked"})
    assert status == 411 and "Content-Length" in answer["error"]


def test_one_share_alone_is_told_in_time(trio: Trio) -> None:
    status, answer, _ = post(trio, "server", body(trio))
    assert status == 408 and "other share" in answer["error"]


def test_an_id_is_used_once_at_a_time(trio: Trio) -> None:
    number = secrets.token_bytes(16)
    with ThreadPoolExecutor(2) as pool:
        found = sorted(pool.map(lambda _: post(trio, "server", body(trio, number))[0], range(2)))
    assert found == [408, 409]


def test_a_client_that_vanishes_leaves_nothing(trio: Trio, caplog: pytest.LogCaptureFixture) -> None:
    """Connections that break off after a share, or in the middle of one; no traceback is logged."""
    for cut in (10, None):
        for role in ("server", "helper"):
            text = body(trio)[:cut]
            with socket.create_connection(("127.0.0.1", trio.http[role].port)) as sock:
                size = len(body(trio))
                sock.sendall(f"POST /v1/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode() + text)
    deadline = time.monotonic() + 10
    services: Any = trio.services
    time.sleep(0.2)
    assert not caplog.records
    while len(services["server"].queue.desk) or len(services["helper"].desk):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    test_answers_are_those_of_the_emulation(trio)


def test_documents(trio: Trio) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", trio.http["server"].port, timeout=20)
    found = {}
    for path in ("/v1/model", "/healthz", "/livez", "/metrics", "/openapi.json", "/docs"):
        connection.request("GET", path)
        answer = connection.getresponse()
        found[path] = answer.read()
        assert answer.status == 200, path
    model = json.loads(found["/v1/model"])
    assert model["role"] == "server" and model["inputs"][0]["shape"] == list(SHAPE)
    assert model["hidden"] == trio.bundle.program.hidden and "roundings" in model["security"]["The noise on the answers"]
    assert "Who takes part" in model["security"] and model["cost"]["rounds"] > 0
    assert b"mpcc_requests_total" in found["/metrics"]
    assert "/v1/infer" in json.loads(found["/openapi.json"])["paths"]


def test_a_full_queue_is_told(tmp_path: Path) -> None:
    with serving(bundle(tmp_path / "m.mpcc", "linear"), queue=2, pair_seconds=1.5) as trio:
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _: post(trio, "server", body(trio)), range(6)))
    statuses = sorted(status for status, _, _ in found)
    assert statuses == [408, 408, 503, 503, 503, 503]
    assert all("retry-after" in headers for status, _, headers in found if status == 503)


def test_roles_that_go_and_come_back(tmp_path: Path) -> None:
    """Without the dealer, or the helper, a request is refused at once; when they are back, it is answered."""
    with serving(bundle(tmp_path / "m.mpcc", "linear")) as trio:
        for role in ("dealer", "helper", "server"):
            trio.stop(role)
            if role == "dealer":
                _wait(lambda: not trio.services["server"].state()[0])
                status, answer, headers = post(trio, "server", body(trio))
                assert status == 503 and "retry-after" in headers and "away" in answer["error"]
            trio.start(role)
            trio.wait_ready()
            with trio.client() as client:
                client.ask(np.zeros(SHAPE))


def _wait(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---- TLS ---------------------------------------------------------------------------------------------------------------


def certificate(folder: Path, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """A self-signed certificate of an address, and its key."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256())
    )  # fmt: skip
    folder.mkdir()
    (folder / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "k.pem").write_bytes(secret)
    return folder / "c.pem", folder / "k.pem"


def test_https_with_an_authority_for_each_server(tmp_path: Path) -> None:
    """A certificate of the one is not accepted of the other."""
    pems = {role: certificate(tmp_path / role) for role in ("server", "helper")}
    with serving(bundle(tmp_path / "m.mpcc", "linear"), pems=pems) as trio:
        urls = [trio.url(role) for role in ("server", "helper")]
        assert urls[0].startswith("https://")
        authorities = [str(pems[role][0]) for role in ("server", "helper")]
        x = torch.randn(SHAPE)
        with Client(*urls, server_authority=authorities[0], helper_authority=authorities[1]) as client:
            assert np.abs(client.ask(x.numpy()).output - trio.emulated(x)[0].numpy()).max() < 5e-3
        for wrong in (None, authorities[0]):
            with pytest.raises(SecurityError, match="certificate is not accepted"):
                Client(*urls, server_authority=authorities[0], helper_authority=wrong).ask(x.numpy())
