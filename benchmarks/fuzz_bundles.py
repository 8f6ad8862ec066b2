"""Mutated bundles and plans through what opens, checks and runs them: the part of `make fuzz` that is about our own formats.

One file of a small bundle is changed, and the manifest rewritten by the library's own functions, so that its hashes fit: what
is tried is the reader, not the hash. Then the bundle is opened, its masks are checked, one input is emulated, and two parties
run it in this process. Right is: an MpccError; the answer of the original; or another model, of which emulation and private
run say the same. Where nothing but labels changed, another answer is wrong.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fuzz import Found, judged
from benchmarks.fuzz_mutations import TOKEN, Sort, mutated_plan, mutation, original
from mpcc.approximate import Plan
from mpcc.bundle import folder as names
from mpcc.bundle import open_bundle
from mpcc.bundle.folder import OWNER
from mpcc.bundle.manifest import hash_of
from mpcc.bundle.owner import version_of
from mpcc.bundle.weights import read_weights
from mpcc.errors import MpccError
from mpcc.ir.info import scale_of
from mpcc.pipeline import schedule
from mpcc.program import Program
from mpcc.program.check import check_masks
from mpcc.program.program import FLOOD_REACH, encode_tensor
from mpcc.runtime.dealer.material import Recipe, Seeds
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.engine.evaluate import Party, decode
from mpcc.runtime.executable import Executable

LARGE = 10**6
"""Elements of a value above which a program is checked, but not run here."""
TOLERANCE = 0.05
"""Of the largest output: how far a private run may be from the emulation (`Settings.tolerance`)."""


def fitted(folder: Path) -> None:
    """Rewrite the manifest of a mutated bundle, so that hashes, digest and version are those of its files."""
    manifest = json.loads((folder / names.MANIFEST).read_text(encoding="utf-8"))
    program, key = folder / names.PROGRAM, bytes.fromhex(json.loads(original().files[OWNER])["key"])
    try:
        manifest["program_digest"] = Program.from_json(program.read_bytes(), {}).digest
        constants = read_weights(folder / names.WEIGHTS)
        plan = Plan.from_json((folder / names.PLAN).read_text(encoding="utf-8"))
        manifest["model_version"] = version_of(plan, constants, key)
    except (MpccError, ValueError, RuntimeError, RecursionError):
        pass  # then the reader has something else to refuse first
    manifest["files"] = {name: hash_of(folder / name, key) for name in manifest["files"] if (folder / name).is_file()}
    (folder / names.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


# ----------------------------------------------------------------------------------------------------------- cases


def bundle_case(number: int, folder: Path) -> Callable[[], Found]:
    draw = random.Random(f"bundle {number}")
    what, sort, contents = mutation(draw)
    place = folder / "case.mpcc"
    shutil.rmtree(place, ignore_errors=True)
    for name, content in {**original().files, **contents}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    if names.MANIFEST not in contents:
        fitted(place)

    def read() -> Found:
        found = _used(place, sort, check=names.PLAN in contents or names.MODEL in contents)
        return Found("bundle", found.verdict, f"{what}: {found.what}")

    return _named(what, read)


def _named(what: str, read: Callable[[], Found]) -> Callable[[], Found]:
    """The case, whose exceptions say what had been changed."""

    def named() -> Found:
        seen = len(RAN)
        try:
            found = read()
        except MpccError:
            found = Found("", "refused", what)
        except Exception as error:
            error.args = (f"{what}: {error.args}",)
            raise
        return Found(found.kind, "EXECUTION", f"{what}: {RAN[seen]}") if len(RAN) > seen else found

    return named


def _used(place: Path, sort: Sort, check: bool) -> Found:
    """Open, check, show, emulate, run."""
    bundle = open_bundle(place)
    executable, program = Executable.of(bundle), bundle.program
    check_masks(program)
    image = original().image
    nodes = [*program.online.graph.nodes, *program.dealer.graph.nodes]
    if any(node.meta["val"].numel() > LARGE for node in nodes if node.op != "output"):
        return Found("bundle", "accepted, not compared", "too large to run here")
    if executable.input_shapes != [tuple(image.shape)]:
        image = torch.zeros(executable.input_shapes[0])
    if check and executable.reference is not None:
        executable.outside(image)
    answer = Emulator(program)(*[image for _ in executable.input_shapes])[0]
    same = answer.shape == original().answer.shape and bool((answer - original().answer).abs().max() <= 1e-6)
    if not same and sort == "label":
        return Found("bundle", "WRONG", "another answer")
    private = privately(program, [image for _ in executable.input_shapes])[0]
    size = max(1.0, float(answer.abs().max()))
    if sort == "wiring" and not bool((private - answer).abs().max() <= TOLERANCE * size + FLOOD_REACH * program.flood[0]):
        return Found("bundle", "WRONG", f"a private run gives {private.flatten()[:3].tolist()}, the emulation another answer")
    return Found("bundle", "accepted, right" if same else "another model")


def privately(program: Program, inputs: list[Tensor]) -> list[Tensor]:
    """The private run with fixed seeds: dealer and both parties one after another in this process."""
    recipe, seeds, own = Recipe(program), (Seeds(b"a" * 32, b"b" * 32), Seeds(b"c" * 32, b"d" * 32)), Seeds(b"e" * 32, b"f" * 32)
    parties = Party(program, 0), Party(program, 1)

    sent = [party.setup_message(shares) for party, shares in zip(parties, recipe.both(seeds, own, True), strict=True)][0]
    assert sent is not None
    for party, shares in zip(parties, recipe.both(seeds, own, False), strict=True):
        party.finish_setup(sent)
        party.prepare(shares)
    parties[0].take_ahead(parties[1].ahead())
    nodes = program.inputs()
    parties[0].start({node.name: torch.zeros(node.meta["val"].shape, dtype=torch.int64) for node in nodes})
    parties[1].start({node.name: encode_tensor(x, scale_of(node)) for node, x in zip(nodes, inputs, strict=True)})
    for index in range(len(program.messages)):
        messages = [party.message(index) for party in parties]
        for party, message in zip(parties, reversed(messages), strict=True):
            party.receive(index, message)
    totals = [mine + theirs for mine, theirs in zip(*(party.outputs() for party in parties), strict=True)]
    return [decode(total, scale) for total, (_, scale) in zip(totals, program.outputs, strict=True)]


def plan_case(number: int, folder: Path) -> Callable[[], Found]:
    """A mutated plan given to `mpcc optimize --plan`."""
    what, content = mutated_plan(random.Random(f"plan {number}"))

    def read() -> Found:
        schedule(original().prepared, Plan.from_json(content))
        return Found("plan", "accepted, runs")

    return _named(f"plan: {what}", read)


# ------------------------------------------------------------------------------------------------------------ runs

RAN: list[str] = []
TEXTUAL = ("exec", "compile", "import", "open")
STARTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")


def _audit(event: str, args: Any) -> None:
    """Hooks cannot be taken away again, so this one is quick and looks for the token alone (or for what nothing here does)."""
    if event in STARTS:
        RAN.append(f"{event} {args!r}"[:200])
    elif event == "exec":
        if args[0] is not None and TOKEN in str(args[0].co_names) + str(args[0].co_consts):
            RAN.append("exec")
    elif event in TEXTUAL and TOKEN in str(args[:2]):
        RAN.append(f"{event} {args!r}"[:200])


@cache
def watch() -> None:
    """From now on, see what runs."""
    original()
    sys.addaudithook(_audit)


KINDS: dict[str, tuple[Callable[[int, Path], Callable[[], Found]], int]] = {
    "bundle": (bundle_case, 2000),
    "plan": (plan_case, 400),
}


def fuzz(part: float = 1.0) -> Iterator[tuple[int, Found]]:
    """(number, what became of it) of every bundle and plan, `part` of the usual number."""
    watch()
    with tempfile.TemporaryDirectory() as name:
        for kind, (make, count) in KINDS.items():
            for number in range(max(1, round(count * part))):
                found = judged(kind, make(number, Path(name)))
                yield number, Found(kind, found.verdict, found.what)
