"""The thin client: what it imports, what it refuses, how it shares, and that its checks are those of the rest."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import fx, nn

from mpcc.calibration.guard import Guard
from mpcc.client import Client
from mpcc.client.model import Model, Value
from mpcc.client.ranges import Ranges
from mpcc.client.shares import encoded, joined, split
from mpcc.errors import PartyError, RangeError, SecurityError, ShapeError, UsageError

DOCUMENT = {
    "format": "mpcc served model 2", "role": "server", "digest": "ab" * 32, "preprocess": None, "calibration": None,
    "inputs": [{"name": "x", "shape": [1, 4], "scale": 65536.0}], "outputs": [{"shape": [1, 2], "scale": 4.0, "noise": 0.0}],
}  # fmt: skip

LIGHT = """
import re, sys
import mpcc.client
from mpcc.cli import app
heavy = {"torch", "scipy", "sympy", "onnx", "pandas", "fastapi", "matplotlib", "crypten"} & set(sys.modules)
assert not heavy, heavy
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


def test_a_client_imports_no_torch_and_stays_small() -> None:
    """`mpcc ask` too: its command line and the client together take less than 100 MB."""
    found = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 100


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"}, {"digest": "zz"}, {"digest": 3}, {"inputs": []}, {"inputs": None}, {"outputs": [{"shape": [1]}]},
        {"inputs": [{"name": "x", "shape": [2**40], "scale": 1.0}]}, {"inputs": [{"name": "x", "shape": [-1], "scale": 1.0}]},
        {"inputs": [{"name": "x", "shape": [1], "scale": float("nan")}]}, {"inputs": [{"name": "x", "shape": [1], "scale": 0}]},
        {"preprocess": {"channels": "CMYK", "mean": [0], "std": [1]}}, {"preprocess": [1]},
        {"prefix": 3}, {"prefix": {"inputs": [], "bytes": 9, "sha256": "ab" * 32}},
        {"prefix": {"inputs": [{"name": "x", "shape": [2]}], "bytes": 9, "sha256": "x"}},
        {"prefix": {"inputs": [{"name": "x", "shape": [2**40]}], "bytes": 9, "sha256": "ab" * 32}},
        {"prefix": {"inputs": [{"name": "x", "shape": [2]}], "bytes": 2**40, "sha256": "ab" * 32}},
        {"calibration": {"calls": 0}}, {"calibration": {"calls": 4, "inputs": [{}], "outputs": [1.0]}},
    ],
)  # fmt: skip
def test_a_document_that_means_nothing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PartyError, match="description is damaged"):
        Model.read(DOCUMENT | change, "https://a.example")


@pytest.mark.parametrize("document", [None, [], 3, "x", {}])
def test_something_else_is_no_document(document: Any) -> None:
    with pytest.raises(PartyError, match="no server of mpcc"):
        Model.read(document, "https://a.example")


def test_shares_add_up_and_each_is_uniform() -> None:
    inputs, outputs = (Value("x", (3, 1000), 65536.0),), (Value("y", (3, 1000), 65536.0),)
    x = np.zeros((3, 1000))
    shares = [split(encoded([x], inputs)) for _ in range(8)]
    for first, second in shares:
        assert np.abs(joined(first, second, outputs)[0]).max() == 0
    for side in zip(*shares, strict=True):
        counts = np.bincount(np.frombuffer(b"".join(side), np.uint8), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6
    assert len({share for pair in shares for share in pair}) == 16


def test_numbers_come_back_exactly() -> None:
    value = (Value("x", (2, 3), 2.0**40),)
    x = np.array([[1.5, -2.25, 0.0], [-(2.0**19), 2.0**19, 1 / 3]])
    (found,) = joined(*split(encoded([x], value)), value)
    assert np.abs(found - x).max() <= 2.0**-41


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.zeros((1, 3)), ShapeError), (np.full((1, 4), np.nan), RangeError), (np.full((1, 4), np.inf), RangeError),
        (np.full((1, 4), 1e9), RangeError),
    ],
)  # fmt: skip
def test_inputs_that_cannot_be_right(x: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="input x"):
        encoded([x], (Value("x", (1, 4), 65536.0),))


class Identity(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _guard(inputs: torch.Tensor) -> Guard:
    module = fx.symbolic_trace(Identity())
    for node in module.graph.nodes:
        node.meta["val"] = torch.empty((1, *inputs.shape[1:]), device="meta")
    return Guard.of(module, inputs, len(inputs))


def test_ranges_are_judged_as_everywhere_else() -> None:
    """The same sentences as `mpcc run` prints, for inputs that are like calibration's and for others."""
    guard = _guard(torch.rand(32, 1, 6, 5))
    ranges = Ranges.read(json.loads(json.dumps(guard.document())), 1, 1)
    cases = [
        torch.rand(1, 1, 6, 5), torch.zeros(1, 1, 6, 5), torch.rand(1, 1, 6, 5) * 3, torch.rand(1, 1, 6, 5).cumsum(2),
        torch.randint(0, 255, (1, 1, 6, 5)).float(),
    ]  # fmt: skip
    told = 0
    for x in cases:
        assert ranges.inputs_outside([x.double().numpy()]) == list(guard.inputs_outside([(x,)]))
        assert ranges.outputs_outside([x.double().numpy()]) == list(guard.outputs_outside([(x,)]))
        told += len(guard.inputs_outside([(x,)]))
    assert told == 4


# ---- a server that says what a test wants -----------------------------------------------------------------------------


@contextmanager
def answering(document: Any, status: int = 200, reply: bytes = b"", headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server whose model is `document`; each request gets the status and the reply."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(200, json.dumps(document).encode(), {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(status, reply, headers or {})

        def _answer(self, code: int, text: bytes, more: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(text)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


HELPER = DOCUMENT | {"role": "helper"}


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (HELPER, DOCUMENT, "first, then the helper"),
        (DOCUMENT, HELPER | {"digest": "cd" * 32}, "different models"),
        (DOCUMENT, HELPER | {"inputs": [{"name": "x", "shape": [1, 4], "scale": 1.0}]}, "different models"),
    ],
)
def test_servers_that_do_not_belong_together(first: Any, second: Any, text: str) -> None:
    with answering(first) as one, answering(second) as other, Client(one, other) as client:
        with pytest.raises(SecurityError, match=text):
            client.ask(np.zeros((1, 4)))


def test_a_model_that_was_not_expected() -> None:
    with answering(DOCUMENT) as one, answering(HELPER) as other, Client(one, other, digest="cd" * 32) as client:
        with pytest.raises(SecurityError, match="was expected"):
            client.ask(np.zeros((1, 4)))


def test_one_server_as_both_is_refused() -> None:
    with pytest.raises(SecurityError, match="one: it would see"):
        Client("http://127.0.0.1:1", "http://127.0.0.1:1/")


@pytest.mark.parametrize("url", ["", "ftp://a", "http://", "http://a:x", "https://a/?q"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError):
        Client(url, "http://127.0.0.1:1", allow_plain=True)


def test_plain_http_to_another_machine_is_refused() -> None:
    with pytest.raises(SecurityError, match="unencrypted"):
        Client("http://a.example", "https://b.example")


def test_an_answer_of_another_size_is_refused() -> None:
    with answering(DOCUMENT, reply=b"x") as one, answering(HELPER, reply=bytes(16)) as other, Client(one, other) as client:
        with pytest.raises(PartyError, match="1 bytes, 16 are due"):
            client.ask(np.zeros((1, 4)))


def test_a_busy_server_is_asked_again_and_its_reason_is_told() -> None:
    said = json.dumps({"error": "full \x1b[2J"}).encode()
    with answering(DOCUMENT, 503, said, {"Retry-After": "0"}) as one, answering(HELPER, reply=bytes(16)) as other:
        with Client(one, other, attempts=2) as client, pytest.raises(PartyError, match="HTTP 503: full") as caught:
            client.ask(np.zeros((1, 4)))
    assert "\x1b" not in str(caught.value)


def test_nobody_there() -> None:
    with pytest.raises(PartyError, match="not reached"):
        Client("http://127.0.0.1:9", "http://127.0.0.1:10", attempts=1).ask(np.zeros((1, 4)))


def test_nothing_is_sent_of_an_unusual_input_when_strict() -> None:
    known = {"calls": 8, "synthetic": False, "inputs": [{"name": "x", "smallest value": [0, 0], "largest value": [1, 1]}]}
    known["outputs"] = [4.0]
    with answering(DOCUMENT | {"calibration": known}, 500) as one, answering(HELPER | {"calibration": known}, 500) as other:
        with Client(one, other, strict=True) as client, pytest.raises(RangeError, match="largest value 9.5"):
            client.ask(np.full((1, 4), 9.5))
        with Client(one, other) as client, pytest.raises(PartyError, match="HTTP 500"):
            client.ask(np.full((1, 4), 9.5))
