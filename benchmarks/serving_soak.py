"""A served model under bad weather: clients that vanish, repeat, send garbage or the wrong id, and roles that are killed.

    python -m benchmarks.serving_soak [--requests 10000] [--kills 5] [--threads 16]

Honest clients ask all the while; each answer is held against the emulation. Afterwards the roles' memory and descriptors are
compared with those after a tenth of the requests. Exit code 1 for a wrong answer, a failure that was not told as an HTTP
status although nobody was killed, or descriptors that were lost.
"""

from __future__ import annotations

import argparse
import http.client
import random
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import bundle
from mpcc.client import Client
from mpcc.errors import PartyError
from mpcc.runtime.net.connect import free_ports
from mpcc.serving.local import Here, here

ROLES = ("server", "helper", "dealer")
LOST = "no answer"
"""A connection that broke or was refused: right while a role is away, and nowhere else."""
SLACK_DESCRIPTORS = 40
"""Connections of clients that are just being answered or given up."""


class Weather:
    """Everything that happens to one service."""

    def __init__(self, running: Here, inputs: Path) -> None:
        stored = np.load(inputs)
        self.images, self.expected = stored["images"], stored["expected"]
        self.running, replica = running, running.replicas[0]
        self.urls = replica.server, replica.helper
        self.client = Client(*self.urls, attempts=1, timeout=60.0)
        self.digest = bytes.fromhex(self.client.model.digest)[:16]
        self.told: Counter[str] = Counter()
        self.wrong: list[float] = []
        self._lock = threading.Lock()

    def count(self, what: str) -> None:
        with self._lock:
            self.told[what] += 1

    def ask(self, number: int) -> None:
        """An honest request."""
        place = number % len(self.images)
        try:
            answer = self.client.ask(self.images[place])
        except PartyError as error:
            what = error.what
            self.count(f"refused: {what.split(':')[0]}" if what.startswith("HTTP") else LOST)
            time.sleep(0.1)  # as a client does that asks again
            return
        apart = float(np.abs(answer.output - self.expected[place]).max())
        if answer.top != int(self.expected[place].argmax()) or apart > 0.3:
            self.wrong.append(apart)
        self.count("answered")

    def body(self, number: bytes | None = None) -> bytes:
        size = self.images[0].size
        return (number or secrets.token_bytes(16)) + self.digest + secrets.token_bytes(8 * size)

    def post(self, url: str, body: bytes) -> None:
        host, port = url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        try:
            connection.request("POST", "/v1/infer", body)
            self.count(f"bad request: HTTP {connection.getresponse().status}")
        except OSError:
            self.count(LOST)
        finally:
            connection.close()

    def misbehave(self, number: int) -> None:
        """One of the things that clients should not do."""
        url, kind = random.choice(self.urls), number % 6
        if kind == 0:  # rubbish of another size
            self.post(url, secrets.token_bytes(random.randrange(2000)))
        elif kind == 1:  # one share alone
            self.post(url, self.body())
        elif kind == 2:  # the same id twice at one server
            same = self.body()
            threading.Thread(target=self.post, args=(url, same), daemon=True).start()
            self.post(url, same)
        elif kind == 3:  # two shares that make no input
            body = self.body()
            threading.Thread(target=self.post, args=(self.urls[0], body), daemon=True).start()
            self.post(self.urls[1], self.body(body[:16]))
        else:  # vanish, in the middle of a request or behind it
            host, port = url.removeprefix("http://").split(":")
            text = self.body()
            head = f"POST /v1/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n".encode()
            try:
                with socket.create_connection((host, int(port)), timeout=5) as sock:
                    sock.sendall(head + text[: random.randrange(len(text)) if kind == 4 else None])
            except OSError:
                pass
            self.count("vanished")

    def kill(self, role: str) -> None:
        """Kill a role, start it again, and wait until requests are answered."""
        process = self.running.processes[role, 0]
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)
        self.running.launch(role)
        self.running.wait_ready()

    def state(self) -> dict[str, tuple[int, int]]:
        """Role -> megabytes of resident memory, open descriptors."""
        found = {}
        for (role, _), process in self.running.processes.items():
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident = int(status.split("VmRSS:")[1].split()[0]) // 1024
            found[role] = resident, len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        return found


def weather(running: Here, inputs: Path, requests: int, kills: int, threads: int) -> int:
    """Two parts: without kills, of which memory and descriptors are compared; then with them."""
    made = Weather(running, inputs)
    stop = threading.Event()

    def bad() -> None:
        number = 0
        while not stop.is_set():
            made.misbehave(number)
            number += 1

    def calm() -> None:
        """What is under way is answered or given up before descriptors are counted."""
        time.sleep(12.0)

    strangers = [threading.Thread(target=bad, daemon=True) for _ in range(4)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(made.ask, range(requests // 10)))
        calm()
        before = made.state()
        for stranger in strangers:
            stranger.start()
        list(pool.map(made.ask, range(requests - requests // 10)))
        stop.set()
        for stranger in strangers:
            stranger.join(60)
        calm()
        after = made.state()
        lost_calls = made.told[LOST]
        print(f"{dict(made.told)}\nmegabytes and descriptors, after a tenth: {before}, in the end: {after}")
        made.told.clear()
        ended = threading.Event()

        def keep_asking(number: int) -> None:
            while not ended.is_set():
                made.ask(number)

        asking = [pool.submit(keep_asking, number) for number in range(4)]
        for turn in range(kills * len(ROLES)):
            made.kill(ROLES[turn % len(ROLES)])
            time.sleep(1.0)
        ended.set()
        for one in asking:
            one.result()
    print(f"around {kills} kills of each role: {dict(made.told)}")
    lost = [role for role in ROLES if after[role][1] > before[role][1] + SLACK_DESCRIPTORS]
    print(f"wrong answers: {len(made.wrong)}; not told as a status: {lost_calls}; descriptors lost: {', '.join(lost) or 'none'}")
    return 1 if made.wrong or lost or lost_calls else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--threads", type=int, default=16)
    options: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where, inputs, _ = bundle("digits", Path(folder))
        with here(where, port=free_ports(1)[0], options=["--batch", "1,4,16"]) as running:
            return weather(running, inputs, options.requests, options.kills, options.threads)


if __name__ == "__main__":
    sys.exit(main())
