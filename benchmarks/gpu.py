"""What a GPU does for a party, a dealer and an emulation, in one run of at most six minutes: docs/gpu.json, docs/gpu.md.

    python -m benchmarks.gpu --prepare models       anywhere, once: programs of the models without weights, and costs (minutes)
    python -m benchmarks.gpu --models models        on the machine with the GPU: measures everything and writes both files
    python -m benchmarks.gpu --device host --small  all of it at toy size on this CPU, nothing written (a test does that)
    python -m benchmarks.gpu --device host --models models --only vit_s --seconds 3600      sessions of real size on this CPU
    python -m benchmarks.gpu --page                 docs/gpu.md anew from docs/gpu.json

Programs are real, weights and images random: integers take the same time whatever they are. Every session is held against the
CPU's of the same seeds, message by message. What the time limit leaves no room for is named as not reached.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from benchmarks.gpu_page import keep, known
from mpcc.ir import curve as gates
from mpcc.ir.curve import grown_levels
from mpcc.ir.info import scale_of
from mpcc.ir.nn import size_of
from mpcc.program import Program
from mpcc.program.program import encode_tensor
from mpcc.runtime.dealer.dealing import SessionSeeds
from mpcc.runtime.dealer.material import Recipe
from mpcc.runtime.device import check, compiled
from mpcc.runtime.device.card import Card, device_of
from mpcc.runtime.device.device import CPU, Device
from mpcc.runtime.device.products import Products
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.engine.evaluate import Party, decode
from mpcc.runtime.session.session import Session
from tests.models.programs import Threads
from tests.models.programs import program as small_program

SEEDS = SessionSeeds(b"server of a test".ljust(32), b"client of a test".ljust(32), b"dealer of a test".ljust(32))
SECONDS = 360.0
MODELS = ("vit_lite", "vit_s", "vit_b")
SMALL = ("mixed",)
EMULATED = {False: 10_000, True: 8}
PRODUCTS = {
    False: ((1, 197, 768, 768), (1, 197, 768, 3072), (1, 197, 3072, 768), (12, 197, 64, 197), (12, 197, 197, 64)),
    True: ((1, 9, 16, 32), (2, 9, 8, 9)),
}
"""batch, rows, terms, columns; those of batch 1 are products with a weight of 14 bits."""
WORDS = {False: 1 << 25, True: 1 << 12}


@dataclass
class Clock:
    """Runs parts while there is time, and writes down what each found, took, or why it was not run."""

    limit: float
    began: float = field(default_factory=time.monotonic)
    found: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str, work: Callable[[], Any], needs: float = 0.0) -> None:
        """`needs`: the seconds that it must have left to be begun."""
        left = self.limit - (time.monotonic() - self.began)
        if left < needs:
            self.found[name] = {"not reached": f"{left:.0f} s were left"}
        else:
            start = time.monotonic()
            self.found[name] = work()
            print(f"{time.monotonic() - self.began:6.1f} s  {name}: {time.monotonic() - start:.1f} s", flush=True)


class Bench:
    """The parts, on one device."""

    def __init__(self, card: Card, small: bool) -> None:
        self.card, self.small, self.repeats = card, small, 1 if small else 5
        self.answers: list[Tensor] = []
        """Of the first inference of these seeds on the CPU, of the program whose parties ran last."""

    def seconds(self, work: Callable[[], Any]) -> float:
        """The median of some runs, each until the device is done; one before them makes ready."""
        took = []
        for _ in range(self.repeats + 1):
            self.card.wait()
            start = time.perf_counter()
            work()
            self.card.wait()
            took.append(time.perf_counter() - start)
        return sorted(took[1:])[self.repeats // 2]

    def kernels(self) -> dict[str, Any]:
        """Every kernel against the CPU on random values."""
        names = []
        for name, found, expected in check.pairs(self.card):
            if not torch.equal(found.cpu(), expected):
                raise SystemExit(f"DIFFERENT: {name}")
            names.append(name)
        return {"compared": len(names), "different": 0, "check_seconds": self.seconds(lambda: check.check(self.card))}

    def memory(self) -> dict[str, float]:
        """Words a second of masks, and bytes a second of copies."""
        words = WORDS[self.small]
        key, host, there = bytes(32), self.card.buffer(words), self.card.kernels.empty(words)
        gigabytes = 8 * words / 1e9
        return {
            "masks_gb_per_s": gigabytes / self.seconds(lambda: self.card.kernels.draw(key, words)),
            "masks_cpu_gb_per_s": gigabytes / self.seconds(lambda: check.key_stream(key, words)),
            "to_device_gb_per_s": gigabytes / self.seconds(lambda: there.copy_(host, non_blocking=True)),
            "to_host_gb_per_s": gigabytes / self.seconds(lambda: host.copy_(there, non_blocking=True)),
            "copy_gb_per_s": 2 * gigabytes / self.seconds(there.clone),
        }

    def products(self) -> list[dict[str, Any]]:
        """Milliseconds of each way by shape; all ways have been compared by then."""
        rows = []
        for batch, m, k, n in PRODUCTS[self.small]:
            x, y = self._words(batch, m, k), self._words(batch, k, n)
            weight = y[0] >> 50 if batch == 1 else None
            table = Products(self.card.kernels, [weight])
            if weight is not None:
                table.by_weight("matmul", x[0], weight)
            else:
                table.matmul(x, y)
            ((key, ways),) = table.seconds.items()
            row = {"shape": [batch, m, k, n], "weight": weight is not None, "chosen": table.chosen[key]}
            rows.append(row | {f"{name}_ms": 1e3 * took for name, took in ways.items()} | {"peer_ms": 1e3 * self._peer(x, y)})
        return rows

    def _peer(self, x: Tensor, y: Tensor) -> float:
        """CrypTen's way on a GPU: 16 float64 products of 4 x 4 blocks of 16 bits, added up; copies and shifts left out."""
        a, b = ((value & 0xFFFF).double() for value in (x, y))
        return self.seconds(lambda: [torch.matmul(a, b) for _ in range(16)])

    def _words(self, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(len(shape))
        return self.card.on_it(torch.randint(-(2**63), 2**63 - 1, shape, generator=generator))

    def gates(self, program: Program) -> list[dict[str, Any]]:
        """Every kind of gate of a program: the dealer's and a party's nanoseconds an element."""
        rows, seen = [], set()
        for node in program.online.graph.nodes:
            if node.target is gates.curve:
                kind = size_of(node), *node.args[3:6], len(node.args[6]), len(node.args[7])
                if kind not in seen:
                    seen.add(kind)
                    rows.append(self._gate(node))
        return sorted(rows, key=lambda row: -row["elements"])

    def _gate(self, node: fx.Node) -> dict[str, Any]:
        count, (depth, low, fine, table, units) = size_of(node), node.args[3:8]
        kernels, width = self.card.kernels, len(table)
        roots, keys, c = self._words(2, count, 2), self._words(4), self._words(count)
        point, payload = c & ((1 << depth) - 1), self._words(width, count)
        key = kernels.make_tree(roots, keys, point, payload, depth)
        leaves = 1 << grown_levels(depth, len(units))
        made = self.seconds(lambda: kernels.make_tree(roots, keys, point, payload, depth))
        took = self.seconds(lambda: kernels.curve(c, roots[0], key, depth, low, fine, table, units))
        blocks = depth - grown_levels(depth, len(units)) + leaves - 1 + leaves * ((width + 1) // 2)
        row = {"elements": count, "depth": depth, "pieces": len(units), "degree": width - 1}
        rates = {"dealer_ns": 1e9 * made / count, "party_ns": 1e9 * took / count, "blocks_per_s": blocks * count / took}
        return row | {"ms": 1e3 * took} | rates

    def party(self, program: Program) -> dict[str, Any]:
        """An inference of both parties in this process, without a network: seconds of each, and whether all is as on the CPU."""
        with in_step(program, self.card) as run:
            run(0)  # products are measured
            own = [run(number) for number in range(1, 3)]
        with in_step(program, CPU) as run:
            self.answers = run(0)["answers"]
            plain = [run(number) for number in range(1, 3)]
        if [one["digest"] for one in own] != [one["digest"] for one in plain]:
            raise SystemExit("DIFFERENT: a session on the device is not that of the CPU")
        best = min(own, key=lambda one: one["server_s"] + one["client_s"])
        del best["answers"], best["digest"]
        cost = program.cost
        sizes = {"rounds": cost.rounds, "bytes": cost.bytes, "busier_bytes": cost.busier_bytes}
        sizes |= {"dealer_bytes": cost.dealer_bytes, "busier_dealer_bytes": cost.busier_dealer_bytes}
        return best | {"equal": True, "cpu_server_s": plain[-1]["server_s"], "cpu_client_s": plain[-1]["client_s"]} | sizes

    def sockets(self, program: Program) -> dict[str, Any]:
        """Server, client and dealer as threads over TCP on loopback, all on the device: the CPU's answer of the same seeds."""
        roles = dict.fromkeys(("server", "client", "dealer"), self.card)
        with Threads(program, devices=roles, seeds=SEEDS, timeout=600.0) as session:
            start = time.perf_counter()
            found = session.run(*images(program))
            took = time.perf_counter() - start
        if not all(map(torch.equal, found, self.answers)):
            raise SystemExit("DIFFERENT: an answer over sockets is not that of the CPU")
        return {"equal": True, "first_s": took}

    def processes(self, program: Program) -> dict[str, Any]:
        """Three processes on this device, over sockets."""
        inputs = images(program)
        with Session(program, "none", device=self.card.name, timeout=600.0) as session:
            took = [session.run(*inputs).seconds for _ in range(1 + self.repeats)]
        return {"seconds": min(took[1:]), "first_s": took[0]}

    def emulation(self, program: Program) -> dict[str, Any]:
        """Images a second in fixed point, and on this CPU of some of them."""
        count, few = EMULATED[self.small], EMULATED[True]
        columns = [torch.randn(count, *value.shape) for value in images(program)]
        emulators = Emulator(program, self.card.place), Emulator(program)
        start = time.perf_counter()
        found = emulators[0].calls(*columns)
        took = time.perf_counter() - start
        start = time.perf_counter()
        expected = emulators[1].calls(*(column[:few] for column in columns))
        equal = all(torch.equal(one[:few], other) for one, other in zip(found, expected, strict=True))
        if not equal:
            raise SystemExit("DIFFERENT: an emulation on the device is not that of the CPU")
        return {"images": count, "seconds": took, "cpu_images_per_s": few / (time.perf_counter() - start), "equal": equal}


@contextmanager
def in_step(program: Program, device: Device) -> Iterator[Callable[[int], dict[str, Any]]]:
    """Both parties in one process, message by message: a function of an inference's number that gives what it took."""
    recipe, parties = Recipe(program, device), [Party(program, party, device) for party in (0, 1)]
    seen = hashlib.sha256()

    def passed(message: Tensor) -> Tensor:
        seen.update(message.numpy().tobytes())
        return message

    first, second = recipe.both(*SEEDS.numbered(0), True)
    message = parties[0].setup_message(first)
    assert message is not None
    parties[1].setup_message(second)
    for party in parties:
        party.finish_setup(passed(message))

    def run(number: int) -> dict[str, Any]:
        seconds = [0.0, 0.0]

        def timed(party: int, work: Callable[[], Any]) -> Any:
            device.wait()
            start = time.perf_counter()
            found = work()
            device.wait()
            seconds[party] += time.perf_counter() - start
            return found

        start = time.perf_counter()
        material = recipe.both(*SEEDS.numbered(number), False)
        device.wait()
        dealt = time.perf_counter() - start
        for party in (0, 1):
            parties[party].prepare(material[party])
        if program.ahead_words:
            parties[0].take_ahead(passed(parties[1].ahead()))
        for party, shares in enumerate(inputs_of(program)):
            parties[party].start(shares)
        for index in range(len(program.messages)):
            sent = [passed(timed(party, partial(parties[party].message, index))) for party in (0, 1)]
            for party in (0, 1):
                timed(party, partial(parties[party].receive, index, sent[1 - party]))
        shares = [[passed(share) for share in timed(party, parties[party].outputs)] for party in (0, 1)]
        scales = (scale for _, scale in program.outputs)
        answers = [decode(one + other, scale) for one, other, scale in zip(*shares, scales, strict=True)]
        took = {"server_s": seconds[0], "client_s": seconds[1], "dealing_s": dealt}
        return {**took, "digest": seen.hexdigest(), "answers": answers}

    yield run


def inputs_of(program: Program) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The server's shares, which are zero, and the client's."""
    names = [node.name for node in program.inputs()]
    shares = [encode_tensor(x, scale_of(n)) for x, n in zip(images(program), program.inputs(), strict=True)]
    return {name: torch.zeros_like(x) for name, x in zip(names, shares, strict=True)}, dict(zip(names, shares, strict=True))


def images(program: Program) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(tuple(node.meta["val"].shape), generator=generator) for node in program.inputs()]


def measure(
    name: str, models: Path | None, small: bool, limit: float, only: Sequence[str] | None = None
) -> dict[str, Any]:
    """All parts, of all models or those named."""
    card = device_of(name)
    assert isinstance(card, Card), "the CPU is what a GPU is compared with: name one (--device cuda)"
    bench, clock, last = Bench(card, small), Clock(limit), None
    clock.part("kernels", bench.kernels)
    clock.part("memory", bench.memory)
    clock.part("products", bench.products)
    for model in only or (SMALL if small else MODELS[::-1]):
        program = small_program(model) if small else read(models, model)
        if program is None:
            clock.found[model] = {"not reached": "its program was not prepared"}
            continue
        clock.part(f"{model}: gates", partial(bench.gates, program))
        clock.part(f"{model}: parties", partial(bench.party, program), 60.0)
        clock.part(f"{model}: sockets", partial(bench.sockets, program), 30.0)
        clock.part(f"{model}: processes", partial(bench.processes, program), 60.0)
        last = program
    if last is not None:
        clock.part("emulation", partial(bench.emulation, last), 30.0)
    return {"device": card.title, "date": str(date.today()), "commit": commit(), "torch": torch.__version__, **clock.found}


def commit() -> str:
    """Of this checkout; empty where there is no git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return ""
    return done.stdout.strip()


# ---- programs ------------------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> dict[str, Any]:
    """The programs of the models as files, without weights, from images that are made of nothing; their costs."""
    import mpcc
    from benchmarks.vit_small import transformer
    from mpcc.cost.machine import REFERENCE
    from tests.models.vit_lite import smooth_image, vit_lite_7_4_32

    folder.mkdir(parents=True, exist_ok=True)
    costs = {}
    makers = {"vit_lite": (lambda: vit_lite_7_4_32()[0], 32), "vit_s": (lambda: transformer("small"), 224)}
    makers["vit_b"] = (lambda: transformer("base"), 224)
    for name, (make, size) in makers.items():
        calibration = torch.cat([smooth_image(size, seed=seed) for seed in (1000, 1001)])
        made = mpcc.compile(make(), (smooth_image(size),), calibration=calibration, network="wan", machine=REFERENCE)
        assert isinstance(made, mpcc.Executable)
        (folder / f"{name}.json.gz").write_bytes(gzip.compress(made.program.to_json().encode()))
        costs[name] = asdict(made.program.cost)
        print(f"{name}: {len(made.program.online.graph.nodes)} nodes", flush=True)
    return costs


def read(folder: Path | None, name: str) -> Program | None:
    """The program of a model, with random weights."""
    path = None if folder is None else folder / f"{name}.json.gz"
    if path is None or not path.exists():
        return None
    text = gzip.decompress(path.read_bytes())
    generator = torch.Generator().manual_seed(0)
    shapes = Program.from_json(text, {}).shapes
    weights = {weight: 0.02 * torch.randn(shape, generator=generator) for weight, shape in shapes.items()}
    return Program.from_json(text, weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; host: the kernels built for this CPU")
    parser.add_argument("--small", action="store_true", help="toy sizes; nothing is written")
    parser.add_argument("--models", type=Path, help="the folder that --prepare wrote")
    parser.add_argument("--only", action="append", choices=MODELS, help="this model alone; may be repeated; nothing is written")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="write the programs of the models, and no more")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="what does not fit into them is left out")
    parser.add_argument("--page", action="store_true", help="write docs/gpu.md anew from docs/gpu.json")
    arguments = parser.parse_args()
    if arguments.prepare is not None:
        keep(known() | {"programs": prepare(arguments.prepare)})
    elif arguments.page:
        keep(known())
    else:
        found = measure(arguments.device, arguments.models, arguments.small, arguments.seconds, arguments.only)
        print(json.dumps(found, indent=2))
        if not arguments.small and not arguments.only and arguments.device != compiled.HOST:
            keep(known() | {"measured": found})


if __name__ == "__main__":
    main()
