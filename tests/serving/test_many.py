"""Many clients at once: everybody gets the own answer, batches fill up, and what crosses the wires is uniform."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from mpcc.client import client as client_module
from mpcc.serving.desk import Desk, Refused, Request
from mpcc.serving.queue import Queue
from tests.models.programs import SHAPE
from tests.models.served import Trio, bundle, serving

UNLIKELY = 1e-6


def interleaved(trio: Trio, count: int, threads: int) -> None:
    """So many requests of different inputs, all at once; each answer is that of its own input."""
    inputs = torch.randn(count, *SHAPE) + torch.linspace(-1, 1, count).reshape(-1, *(1,) * len(SHAPE))
    expected = torch.stack([trio.emulated(x)[0] for x in inputs]).numpy()
    with trio.client(attempts=10) as client, ThreadPoolExecutor(threads) as pool:
        found = np.stack(list(pool.map(lambda x: client.ask(x.numpy()).output, inputs)))
    apart = np.abs(found - expected).reshape(count, -1).max(1)
    assert apart.max() < 5e-3 * np.abs(expected).max()


def batches(trio: Trio) -> float:
    """Requests per computation so far."""
    metrics: Any = trio.services["server"].metrics.batch
    samples = {sample.name: sample.value for sample in metrics.collect()[0].samples if not sample.labels}
    return float(samples["mpcc_batch_requests_sum"] / samples["mpcc_batch_requests_count"])


def test_interleaved_requests(tmp_path: Path) -> None:
    with serving(bundle(tmp_path / "m.mpcc"), batches=(1, 4, 8), in_flight=2) as trio:
        interleaved(trio, 60, 24)
        assert batches(trio) > 1.5


@pytest.mark.slow
def test_500_interleaved_requests(tmp_path: Path) -> None:
    with serving(bundle(tmp_path / "m.mpcc"), batches=(1, 4, 16), in_flight=3) as trio:
        interleaved(trio, 500, 64)


def test_garbage_in_a_batch_stays_in_its_row(tmp_path: Path) -> None:
    """A share that is not of an input changes no other answer of the same batch."""
    with serving(bundle(tmp_path / "m.mpcc"), batches=(1, 8), in_flight=1) as trio:
        x = torch.randn(SHAPE)
        expected = trio.emulated(x)[0].numpy()
        with trio.client() as good, trio.client() as bad, ThreadPoolExecutor(16) as pool:
            wild = [pool.submit(lambda: bad.ask(np.full(SHAPE, 2.0**19))) for _ in range(8)]
            right = [pool.submit(lambda: good.ask(x.numpy())) for _ in range(8)]
            for one in right:
                assert np.abs(one.result().output - expected).max() < 5e-3 * np.abs(expected).max()
            assert len([one.result() for one in wild]) == 8


def test_http_bodies_are_uniform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each server receives and what it answers, for two different inputs: each byte value is as likely as any other, each
    bit is a fair coin over the requests, and no share comes twice. The sum of both is not."""
    caught: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
    asked = client_module._asked

    def seen(site: Any, body: bytes, size: int, ticket: Any) -> bytes:
        answer = asked(site, body, size, ticket)
        caught[site.url, "request"].append(body[32:])
        caught[site.url, "answer"].append(answer)
        return answer

    monkeypatch.setattr(client_module, "_asked", seen)
    runs = 24
    with serving(bundle(tmp_path / "m.mpcc")) as trio, trio.client() as client:
        for value in (0.0, 1.5):
            for _ in range(runs):
                client.ask(np.full(SHAPE, value))
        for role in ("server", "helper"):
            for kind in ("request", "answer"):
                bodies = caught[trio.url(role), kind]
                halves = [np.frombuffer(b"".join(part), np.uint8) for part in (bodies[:runs], bodies[runs:])]
                for half in halves:
                    assert stats.chisquare(np.bincount(half, minlength=256)).pvalue > UNLIKELY, (role, kind)
                    bits = np.unpackbits(half.reshape(runs, -1), axis=1).sum(0, dtype=np.int64)
                    statistic = float(((bits - runs / 2) ** 2).sum() / (runs / 4))
                    assert stats.chi2.sf(statistic, len(bits)) > UNLIKELY, (role, kind)
                assert len(set(bodies)) == 2 * runs
        one, other = (caught[trio.url(role), "request"][0] for role in ("server", "helper"))
        total = np.frombuffer(one, "<u8") + np.frombuffer(other, "<u8")
        assert len(set(total.tolist())) == 1


# ---- the queue by itself -----------------------------------------------------------------------------------------------


def lanes(queue: Queue, *sizes: int) -> dict[int, list[list[Request]]]:
    """Idle lanes of these sizes, which keep what they are given and never finish."""
    given: dict[int, list[list[Request]]] = {size: [] for size in sizes}
    for size in sizes:
        queue.opened(size)
        threading.Thread(target=lambda size=size: given[size].append(queue.next(size, lambda: True)), daemon=True).start()
    while len(queue.idle) < len(sizes):
        time.sleep(0.01)
    return given


def ready(queue: Queue, count: int, first: int = 1) -> list[bytes]:
    numbers = [bytes([first + i]) * 16 for i in range(count)]
    for number in numbers:
        queue.announced(number)
    for number in numbers:
        queue.add(number, np.zeros(1, np.int64))
    return numbers


def test_what_is_ready_shares_a_lane() -> None:
    """And what comes within moments goes together, also if a lane is idle."""
    queue = Queue(Desk(100), in_flight=1)
    given = lanes(queue, 1, 4, 16)
    numbers = ready(queue, 3)
    time.sleep(0.2)
    assert [request.id for request in given[4][0]] == numbers and queue.waiting == 0
    more = ready(queue, 20, 100)
    time.sleep(0.2)
    assert queue.waiting == 20 and not given[16]
    queue.done()
    time.sleep(0.2)
    assert [request.id for request in given[16][0]] == more[:16] and queue.waiting == 4


@pytest.mark.parametrize(
    ("count", "size"), [(1, 1), (2, 1), (3, 4), (4, 4), (5, 4), (8, 4), (9, 16), (16, 16), (40, 16)]
)
def test_lanes_are_more_than_half_full(count: int, size: int) -> None:
    queue = Queue(Desk(100), in_flight=1)
    lanes(queue, 1, 4, 16)
    assert queue._chosen(count).size == size


def test_no_lane_means_no_queue() -> None:
    with pytest.raises(Refused, match="away") as caught:
        Queue(Desk(10), 1).add(bytes([1]) * 16, np.zeros(1, np.int64))
    assert caught.value.status == 503 and caught.value.retry_after


def test_strangers_ids_do_not_fill_memory() -> None:
    queue = Queue(Desk(10), 1)
    for i in range(10_000):
        queue.announced(i.to_bytes(16, "big"))
    assert len(queue._announced) <= 4096


def test_a_request_that_nobody_waits_for_is_not_computed() -> None:
    queue = Queue(Desk(10), in_flight=1)
    queue.opened(1)
    first, second = (queue.add(bytes([i]) * 16, np.zeros(1, np.int64)) for i in (1, 2))
    for request in (first, second):
        queue.announced(request.id)
    first.answer.cancel()
    assert queue.next(1, lambda: True) == [second]
