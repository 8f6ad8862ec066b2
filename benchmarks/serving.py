"""Requests a second and latency of a served model, for 1, 8 and 64 clients at a time, on loopback and on emulated networks.

    python -m benchmarks.serving [--models digits fashion] [--networks loopback lan wan] [--clients 1 8 64] [--seconds 20]
    python -m benchmarks.serving --write          the table in docs/serving.md

Each role and the clients are processes of their own; on lan and wan each in a network namespace (needs root), clients too. Every
answer is held against the emulation. Ratios are to one client that asks one after another, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mpcc.client import Client
from mpcc.runtime.net.connect import free_ports

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "serving.md"
MARK = "<!-- python -m benchmarks.serving --write -->", "<!-- end -->"
NETWORKS = ("loopback", "lan", "wan")
ROLES = ("server", "helper", "dealer", "clients")
WARM_SECONDS = 3.0
SHOWN = "model, network, clients, requests a second, times one after another, p50 s, p95 s, requests a batch, wrong answers"


# ---- the clients, in a process of their own ----------------------------------------------------------------------------


def load(server: str, helper: str, inputs: Path, clients: int, seconds: float) -> dict[str, Any]:
    """`clients` threads that ask one request after another; what they measured."""
    stored = np.load(inputs)
    images, expected = stored["images"], stored["expected"]
    client = Client(server, helper, allow_plain=True, timeout=120.0, attempts=50)
    assert client.model.role == "server"  # read once, before the clock starts
    before = sum(client.traffic)
    taken: list[tuple[float, float]] = []
    wrong: list[float] = []
    lock, begin = threading.Lock(), time.monotonic() + min(WARM_SECONDS, seconds / 3)
    end = begin + seconds

    def ask(number: int) -> None:
        while (start := time.monotonic()) < end:
            place = number % len(images)
            answer = client.ask(images[place])
            apart = float(np.abs(answer.output - expected[place]).max())
            with lock:
                taken.append((time.monotonic(), time.monotonic() - start))
                if answer.top != int(expected[place].argmax()):
                    wrong.append(apart)
            number += clients

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = [latency for when, latency in taken if begin <= when <= end]
    status = Path("/proc/self/status").read_text()
    return {
        "answers": len(taken),
        "rate": len(counted) / seconds,
        "p50": float(np.median(counted)) if counted else float("nan"),
        "p95": float(np.quantile(counted, 0.95)) if counted else float("nan"),
        "wrong": len(wrong),
        "bytes an answer": (sum(client.traffic) - before) / max(1, len(taken)),
        "words": int(images[0].size + expected[0].size),
        "peak megabytes": int(status.split("VmHWM:")[1].split()[0]) / 1024,
        "torch": "torch" in sys.modules,
    }


# ---- the service -------------------------------------------------------------------------------------------------------


def bundle(model: str, folder: Path) -> tuple[Path, Path, float]:
    """The bundle of a model, held-out inputs with their emulated answers, and megabytes that the dealer sends for one."""
    import torch

    import mpcc

    place = ROOT / "examples" / f"{model}_vit"
    if model == "digits":
        calibration: Any = place / "calibration.npz"
        images = torch.from_numpy(np.load(place / "heldout.npz")["images"][:40])
    else:
        from examples.fashion_vit import data

        calibration, images = data.training()[0][:256], data.test()[0][:40]
    made = mpcc.optimize(place / "model.onnx", calibration=calibration, machine="reference")
    where = made.save(folder / f"{model}.mpcc")
    loaded = mpcc.load(where)
    expected = loaded.emulate(images, check=False)
    assert isinstance(expected, torch.Tensor)
    stored = folder / f"{model}.npz"
    np.savez(stored, images=images[:, None].numpy(), expected=expected[:, None].numpy())
    return where, stored, loaded.program.cost.dealer_bytes / 1e6


@contextmanager
def served(where: Path, network: str, options: Sequence[str]) -> Iterator[tuple[Any, list[str]]]:
    """The roles, and what to put before the clients' command."""
    from mpcc.cost import Network
    from mpcc.serving.local import Place, here

    if network == "loopback":
        with here(where, port=free_ports(1)[0], options=options) as running:
            yield running, []
        return
    from benchmarks.netns import Namespaces

    with Namespaces(len(ROLES), Network.parse(network)) as spaces:
        places = {role: Place(spaces.address(i), spaces.command(i)) for i, role in enumerate(ROLES)}
        with here(where, port=8000, options=options, places=places) as running:
            yield running, places["clients"].command


def measure(models: Sequence[str], networks: Sequence[str], clients: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """One row for each model, network and number of clients."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            where, inputs, dealt = bundle(model, Path(folder))
            for network in networks:
                alone, seen = 0.0, (0.0, 0.0)
                with served(where, network, ["--batch", "1,4,16"]) as (running, prefix):
                    for count in clients:
                        replica = running.replicas[0]
                        task = ["--load", replica.server, replica.helper, str(inputs), str(count), str(seconds)]
                        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                        command = [*prefix, sys.executable, "-m", "benchmarks.serving", *task]
                        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
                        if done.returncode:
                            raise RuntimeError(done.stderr)
                        found = json.loads(done.stdout)
                        alone = alone or found["rate"]
                        row = {"model": model, "network": network, "clients": count, "times": found["rate"] / alone, **found}
                        row["dealer megabytes"] = dealt
                        now = _batches(running, prefix)
                        row["batch"] = (now[0] - seen[0]) / max(1.0, now[1] - seen[1])
                        seen = now
                        rows.append(row)
                        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def _batches(running: Any, prefix: Sequence[str]) -> tuple[float, float]:
    """Requests and computations so far, as the server counts."""
    code = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
    asked = [*prefix, sys.executable, "-c", code, f"{running.replicas[0].server}/metrics"]
    text = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return float(lines["mpcc_batch_requests_sum"]), float(lines["mpcc_batch_requests_count"])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """As Markdown."""
    names = SHOWN.split(", ")
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join(['---', '---', *['---:'] * (len(names) - 2)])} |"]
    for row in rows:
        cells = [
            row["model"], row["network"], str(row["clients"]), f"{row['rate']:.1f}", f"{row['times']:.1f}",
            f"{row['p50']:.2f}", f"{row['p95']:.2f}", f"{row['batch']:.1f}", f"{row['wrong']} of {row['answers']}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    last, dealt = rows[-1], {row["model"]: row["dealer megabytes"] for row in rows}
    share = max(row["bytes an answer"] / (8 * row["words"]) for row in rows)
    lines += [
        "",
        f"A client sends and receives at most {share:.2f} times the words of its input and output, headers included (TLS not). "
        "One answer takes from the dealer, over both links, "
        + ", ".join(f"{megabytes:.1f} MB ({model})" for model, megabytes in dealt.items())
        + ": it works ahead, so that one request alone does not wait for that, but many cannot be faster than its links. "
        f"The process of {last['clients']} clients peaks at {max(row['peak megabytes'] for row in rows):.0f} MB, without torch. "
        f"Load average at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.",
    ]
    return "\n".join(lines)


def main() -> int:
    if sys.argv[1:2] == ["--load"]:
        server, helper, inputs, clients, seconds = sys.argv[2:]
        print(json.dumps(load(server, helper, Path(inputs), int(clients), float(seconds))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["digits", "fashion"], choices=["digits", "fashion"])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = measure(options.models, options.networks, options.clients, options.seconds)
    text = table(rows)
    print(text)
    if options.write:
        before, rest = PAGE.read_text().split(MARK[0])
        _, after = rest.split(MARK[1])
        PAGE.write_text(f"{before}{MARK[0]}\n{text}\n{MARK[1]}{after}")
    return 1 if any(row["wrong"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
