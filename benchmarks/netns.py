"""Network namespaces joined by TUN devices and a forwarder that delays and paces packets: real TCP with a real RTT.

    python -m benchmarks.netns                          measure the emulated link: TCP round trip and throughput
    with Namespaces(2, Network.parse("20ms,1Gb/s")) as spaces:
        subprocess.Popen(spaces.command(0) + ["program"])      # runs at spaces.address(0)

A namespace's address lies on its loopback device, as routers do it, so that programs which are told to use `lo` (the
stock engine's gloo) reach the others. Every pair of namespaces is a link of its own with the given round trip and
bandwidth each way. Needs root and /dev/net/tun; `unavailable()` says what is missing.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from mpcc.cost import Network

ROOT = Path(__file__).parents[1]
TUN = "/dev/net/tun"
SET_INTERFACE, IS_TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
PACKET = 16000
"""Bytes of the largest packet. Larger than on a real link: the forwarder then costs little of the processor."""
STEP = 5e-5
"""Seconds before a packet is due at which the forwarder starts to watch the clock."""


def unavailable() -> str | None:
    """Why namespaces cannot be made here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path(TUN).exists():
        return f"there is no {TUN}"
    probe = f"mpccprobe{os.getpid()}"
    if _ip("netns", "add", probe, check=False):
        return "`ip netns add` fails: no iproute2, or no right to make namespaces"
    _ip("netns", "del", probe, check=False)
    return None


class Namespaces:
    """`count` namespaces, each linked with each other by `network`."""

    def __init__(self, count: int, network: Network) -> None:
        self.network = network
        self.names = [f"mpcc{os.getpid()}x{index}" for index in range(count)]
        self.devices: list[int] = []
        self.forwarder = 0

    def __enter__(self) -> Namespaces:
        if reason := unavailable():
            raise RuntimeError(reason)
        try:
            for index in range(len(self.names)):
                self._add(index)
            self.forwarder = os.fork()
            if not self.forwarder:
                try:
                    os.nice(-10)  # a link does not wait for a processor
                    forward(self.devices, self.network)
                finally:
                    os._exit(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.forwarder:
            os.kill(self.forwarder, signal.SIGKILL)
            os.waitpid(self.forwarder, 0)
        for device in self.devices:
            os.close(device)
        for name in self.names:
            _ip("netns", "del", name, check=False)

    def address(self, index: int) -> str:
        return f"10.77.0.{index + 1}"

    def command(self, index: int) -> list[str]:
        """What to put before a command so that it runs in the namespace."""
        return ["ip", "netns", "exec", self.names[index]]

    def _add(self, index: int) -> None:
        name, device = self.names[index], f"mt{os.getpid()}x{index}"
        _ip("netns", "add", name)
        descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        self.devices.append(descriptor)
        fcntl.ioctl(descriptor, SET_INTERFACE, struct.pack("16sH", device.encode(), IS_TUN_WITHOUT_HEADER))
        _ip("link", "set", device, "netns", name)
        inside = ("-n", name)
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "address", "flush", "dev", "lo")
        _ip(*inside, "address", "add", f"{self.address(index)}/32", "dev", "lo")
        _ip(*inside, "link", "set", device, "mtu", str(PACKET), "txqueuelen", "10000", "up")
        _ip(*inside, "route", "add", "10.77.0.0/24", "dev", device, "src", self.address(index))


def forward(devices: list[int], network: Network) -> None:
    """Carry packets between the devices for ever, by the last byte of their address, late and at the link's pace."""
    free_at: dict[tuple[int, int], float] = {}
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        left = waiting[0][0] - time.monotonic() - STEP if waiting else 1.0
        for device in select.select(devices, [], [], max(0.0, left))[0]:
            source = devices.index(device)
            while packet := _read(device):
                target = packet[19] - 1 if packet[0] >> 4 == 4 else -1  # the last byte of an IPv4 destination
                if not 0 <= target < len(devices):
                    continue
                now = time.monotonic()
                free = max(now, free_at.get((source, target), 0.0)) + len(packet) / network.bandwidth
                free_at[source, target] = free
                number += 1
                heapq.heappush(waiting, (free + network.rtt_seconds / 2, number, devices[target], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(waiting)
            try:
                os.write(device, packet)
            except OSError:
                pass  # the queue is full: TCP sends it again, as on a real link


def _read(device: int) -> bytes:
    try:
        return os.read(device, PACKET + 100)
    except OSError:
        return b""


def _ip(*arguments: str, check: bool = True) -> int:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return 1
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.returncode


PINGS, STREAM = 20, 20_000_000


def _answer(address: str) -> None:
    """The far end of the measurement: echo PINGS bytes, then swallow STREAM bytes."""
    with socket.create_server((address, 7777)) as server:
        peer, _ = server.accept()
        for _ in range(PINGS):
            peer.sendall(peer.recv(1))
        left = STREAM
        while left:
            left -= len(peer.recv(1 << 20))
        peer.sendall(b"!")


def _ask(address: str) -> None:
    """The near end: prints the best round trip and the throughput."""
    peer = _connected(address)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    trips = []
    for _ in range(PINGS):
        start = time.perf_counter()
        peer.sendall(b"?")
        peer.recv(1)
        trips.append(time.perf_counter() - start)
    start = time.perf_counter()
    peer.sendall(bytes(STREAM))
    peer.recv(1)
    rate = STREAM / (time.perf_counter() - start) / 1e6
    median, least = sorted(trips)[PINGS // 2] * 1e3, min(trips) * 1e3
    print(f"TCP round trip: median {median:.1f} ms, least {least:.1f} ms; stream {rate:.0f} MB/s")


def _connected(address: str) -> socket.socket:
    for _ in range(100):
        try:
            return socket.create_connection((address, 7777), timeout=30)
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{address} does not answer")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="20ms,1Gb/s", help="lan, wan, or RTT,BANDWIDTH")
    parser.add_argument("--quick", action="store_true", help="as without")
    parser.add_argument("--end", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.end:
        (_answer if arguments.end[0] == "answer" else _ask)(arguments.end[1])
        return 0
    if reason := unavailable():
        print(f"no measurement over namespaces: {reason}")
        return 0
    with Namespaces(2, Network.parse(arguments.network)) as spaces:
        script = [sys.executable, "-m", "benchmarks.netns", "--end"]
        ends = [
            subprocess.Popen([*spaces.command(i), *script, end, spaces.address(0)], cwd=ROOT)
            for i, end in enumerate(("answer", "ask"))
        ]
        return max(end.wait(timeout=120) for end in ends)


if __name__ == "__main__":
    sys.exit(main())
