"""Mutated bundles and plans through what opens, checks and runs them: the part of `make fuzz` that is about our own formats.

    python -m benchmarks.fuzz_bundles                     2,000 bundles, 400 plans
    python -m benchmarks.fuzz_bundles --part 0.05         a twentieth of each

One file of a small bundle is changed, and the manifest rewritten by the library's own functions, so that its hashes fit: what
is tried is the reader, not the hash. Then the bundle is opened, its masks are checked, one input is emulated, and two parties
run it in this process. Right is: an MpccError; the answer of the original; or another model, of which emulation and private
run say the same. Where nothing but labels changed, another answer is wrong.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import random
import shutil
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mpcc
from benchmarks.fuzz import FLOATS, INTEGERS, TEXTS, Found, judged
from mpcc.approximate import Plan
from mpcc.bundle import manifest as names
from mpcc.bundle import open_bundle
from mpcc.bundle.manifest import read_manifest
from mpcc.bundle.weights import read_weights
from mpcc.errors import MpccError
from mpcc.ir.info import scale_of
from mpcc.pipeline import Prepared, prepare, schedule
from mpcc.program import Program
from mpcc.program.check import check_masks
from mpcc.program.program import encode_tensor
from mpcc.runtime.dealer.material import Recipe, Seeds
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.engine.evaluate import Party, decode
from mpcc.runtime.executable import Executable

TOKEN = "mpcc_fuzz_ran"
"""In every hostile text: the audit hook looks for it in what is compiled, imported, opened and started."""
HOSTILE = [
    *TEXTS,
    f"open('{TOKEN}','w')",
    f'"); __import__("os").system("touch {TOKEN}"); ("',
    f"x: __import__('{TOKEN}')",
    f"x):\n    open('{TOKEN}', 'w')\n    return (x",
    f"{TOKEN}.module",
    f"../{TOKEN}",
    "\ud800",
    "é" * 300,
    "lambda",
    "softmax_relu",
]
DEEP: Any = [[[[[[[[[[1]]]]]]]]]]
VALUES: list[Any] = [*HOSTILE, *INTEGERS, 10**30, 2**64, *FLOATS, 1e300, -1e-300, None, True, False, [], {}, DEEP, [0], ["x"]]
VALUES += [[2**31] * 3, [10**9], {"a": 1}, [1] * 2000]
LARGE = 10**6
"""Elements of a value above which a program is checked, but not run here."""
LABELS = {"origin", "end", "failures"}
"""Of program.json: what is shown to people and changes no answer."""
TOLERANCE = 0.05
"""Of the largest output: how far a private run may be from the emulation (`Settings.tolerance`)."""

Mutation = tuple[str, bool, dict[str, bytes]]
"""What was done, whether the answer may change by it, and the new contents of files."""


# --------------------------------------------------------------------------------------------------- the original


class Small(nn.Module):
    """An encoder of one block with every kind of non-linear operator, and a comparison."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm, self.qkv = nn.Conv2d(1, 8, 2, 2), nn.LayerNorm(8), nn.Linear(8, 24)
        self.gelu, self.relu, self.head = nn.GELU(), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).reshape(1, 4, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + ((q @ k.transpose(-1, -2) * 0.5).softmax(-1) @ v).transpose(1, 2).reshape(1, 4, 8)
        found: Tensor = self.head(self.relu(self.gelu(x)).mean(1))
        return found


@dataclass(frozen=True)
class Original:
    """The bundle that is mutated: its files, its answer, and the model ready for other plans."""

    files: dict[str, bytes]
    answer: Tensor
    prepared: Prepared
    image: Tensor


@cache
def original() -> Original:
    """Made anew in each process: nothing of it is taken from a file."""
    torch.manual_seed(0)
    model, images = Small().eval(), torch.randn(32, 1, 4, 4)
    made = mpcc.optimize(model, (images[:1],), calibration=images)
    prepared = prepare(model, (images[:1],), calibration=images)
    with tempfile.TemporaryDirectory() as name:
        folder = made.save(Path(name) / "small.mpcc")
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return Original(files, Emulator(open_bundle(folder).program)(images[:1])[0], prepared, images[:1])


# ------------------------------------------------------------------------------------------------------- mutations


def mutation(draw: random.Random) -> Mutation:
    """One file with another content."""
    make = draw.choices([_program, _plan, _manifest, _weights, _bytes], [60, 10, 8, 15, 7])[0]
    return make(draw)


def _text(document: Any, draw: random.Random) -> bytes:
    """JSON, now and then with what a careful writer never says: keys twice, numbers that are none, lists without end."""
    text = json.dumps(document)
    match draw.choices(["plain", "twice", "constant", "deep", "long", "encoding"], [90, 3, 3, 2, 1, 1])[0]:
        case "twice":
            at = draw.choice([place for place, sign in enumerate(text) if sign == "{"])
            key = draw.choice(["version", "name", "op", "args", "approximation", "sites", "files", "format"])
            text = f'{text[: at + 1]}"{key}": 1, "{key}": 2{", " if text[at + 1] != "}" else ""}{text[at + 1 :]}'
        case "constant":
            text = _with_number(text, draw.choice(["NaN", "Infinity", "-Infinity", "1e999"]), draw)
        case "deep":
            text = _with_number(text, draw.choice(["[" * 10**5 + "]" * 10**5, '{"a":' * 10**5 + "1" + "}" * 10**5]), draw)
        case "long":
            text = _with_number(text, "9" * draw.choice([100, 5000]), draw)
        case "encoding":
            return text.encode(draw.choice(["utf-16", "utf-8-sig", "latin-1"]), "replace") + b"\xff"
    return text.encode("utf-8", "surrogatepass")


def _with_number(text: str, other: str, draw: random.Random) -> str:
    places = [place for place, sign in enumerate(text) if sign.isdigit() and not text[place - 1].isalnum()]
    start = draw.choice(places or [0])
    end = start
    while end < len(text) and text[end] in "0123456789.e-+":
        end += 1
    return text[:start] + other + text[end:]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _inside(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def _put(document: Any, path: tuple[Any, ...], draw: random.Random) -> str:
    """Another value at a place: a near one, a hostile one, none at all, or a key beside it."""
    holder, key = _inside(document, path[:-1]), path[-1]
    old = holder[key]
    action = draw.choices(["value", "near", "delete", "double", "key"], [45, 35, 10, 5, 5])[0]
    if action == "delete":
        del holder[key]
    elif action == "double" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(old))
    elif action == "key" and isinstance(holder, dict):
        holder[draw.choice(HOSTILE)] = holder.pop(key)
    elif action == "near" and isinstance(old, int | float) and not isinstance(old, bool):
        holder[key] = draw.choice([old + 1, old - 1, -old, old * 2, old / 2, float(old), str(old), [old], old + 8])
    elif action == "near" and isinstance(old, list) and old:
        holder[key] = draw.choice([old[:-1], old * 2, old[::-1], [old], old[1:], {"0": old}])
    else:
        holder[key] = draw.choice(VALUES)
    return f"{action} at {'/'.join(map(str, path))}: {str(old)[:40]!r} -> {str(_or_nothing(holder, key))[:40]!r}"


def _or_nothing(holder: Any, key: Any) -> Any:
    try:
        return holder[key]
    except LookupError:
        return "nothing"


def _program(draw: random.Random) -> Mutation:
    document = json.loads(original().files[names.PROGRAM])
    if draw.random() < 0.4:
        what, may_change = _edit(document, draw), True
    else:  # first a kind of place, then one of this kind: there are many rows of few kinds
        groups: dict[Any, list[tuple[Any, ...]]] = {}
        for path in _places(document):
            row = document[path[0]][path[1]] if path[0] in ("online", "dealer") and len(path) > 1 else {}
            kind = (row["op"], *path[2:4], len(path)) if len(path) > 2 and row else (path[0], len(path))
            groups.setdefault(kind, []).append(path)
        path = draw.choice(groups[draw.choice(list(groups))])
        may_change = not LABELS & set(map(str, path))
        what = _put(document, path, draw)
    return f"{names.PROGRAM}: {what}", may_change, {names.PROGRAM: _text(document, draw)}


def _edit(document: Any, draw: random.Random) -> str:
    """An edit of a graph: rows in another order, dropped, twice, of another operation, or wired to other values."""
    level = draw.choice(["online", "online", "dealer"])
    rows = document[level]
    one, other = draw.randrange(len(rows)), draw.randrange(len(rows))
    action = draw.choice(["swap", "neighbours", "drop", "double", "operation", "wire", "wire", "wire", "rename", "exchange", "output"])
    match action:
        case "swap":
            rows[one], rows[other] = rows[other], rows[one]
        case "neighbours":
            rows.insert(max(0, one - 1), rows.pop(one))
        case "drop":
            del rows[one]
        case "double":
            rows.insert(one + 1, rows[one] | {"name": draw.choice([rows[one]["name"], "another"])})
        case "operation":
            rows[one]["op"] = rows[other]["op"]
        case "rename":
            old, new = rows[one]["name"], draw.choice(["another", "output", "print", "self", rows[other]["name"]])
            document[level] = json.loads(json.dumps(rows).replace(f'"{old}"', json.dumps(new)))
        case "exchange":
            rows[one]["args"], rows[other]["args"] = rows[other]["args"], rows[one]["args"]
        case "output":
            document["outputs"].append(copy.deepcopy(document["outputs"][0]))
        case "wire":
            known = {row["name"] for row in document["dealer"] + rows}
            wires = [(row, place) for row in rows for place, arg in enumerate(row["args"]) if isinstance(arg, str) and arg in known]
            row, place = draw.choice(wires)
            alike = [r["name"] for r in rows if r["op"] == _op_of(rows, row["args"][place])] or [rows[other]["name"]]
            row["args"][place] = draw.choice([draw.choice(alike), rows[other]["name"]])
            return f"{level}: {row['name']} reads {row['args'][place]}"
    return f"{level}: {action} of {one}, {other}"


def _op_of(rows: Any, name: str) -> str | None:
    return next((row["op"] for row in rows if row["name"] == name), None)


def _plan(draw: random.Random) -> Mutation:
    document = json.loads(original().files[names.PLAN])
    what = _put(document, draw.choice(list(_places(document))), draw)
    return f"{names.PLAN}: {what}", False, {names.PLAN: _text(document, draw)}


def _manifest(draw: random.Random) -> Mutation:
    document = json.loads(original().files[names.MANIFEST])
    what = _put(document, draw.choice(list(_places(document))), draw)
    return f"{names.MANIFEST}: {what}", False, {names.MANIFEST: _text(document, draw)}


def _weights(draw: random.Random) -> Mutation:
    content = original().files[names.WEIGHTS]
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if draw.random() < 0.5:
        what = _put(header, draw.choice(list(_places(header))), draw)
    elif draw.random() < 0.7:
        value = draw.choice([*FLOATS, 1e38, -3e38, 2.0**62, 1e-45, 65504.0])
        at = 4 * draw.randrange(len(data) // 4)
        data = data[:at] + struct.pack("<f", value) + data[at + 4 :]
        what = f"{value} at byte {at}"
    else:
        what = draw.choice(["empty", "half", "longer", "the length"])
        data = {"empty": b"", "half": data[: len(data) // 2], "longer": data + bytes(4)}.get(what, data)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    said = draw.choice([0, 1, 2**32, 2**63, 2**64 - 1, len(text) + 1]) if what == "the length" else len(text)
    return f"{names.WEIGHTS}: {what}", True, {names.WEIGHTS: struct.pack("<Q", said) + text + data}


def _bytes(draw: random.Random) -> Mutation:
    """Any file: bytes changed, a piece cut out, nothing left."""
    name = draw.choice(sorted(original().files))
    content = original().files[name]
    for _ in range(draw.choice([1, 1, 3])):
        start, length = draw.randrange(len(content)), draw.choice([1, 1, 4, 100])
        piece = draw.choice([b"", draw.randbytes(length), bytes(length), content[start : start + length] * 2])
        content = draw.choice([content[:start] + piece + content[start + length :]] * 8 + [content[:start], b""]) or b" "
    return f"{name}: bytes", name in (names.PROGRAM, names.WEIGHTS), {name: content}


def fitted(folder: Path) -> None:
    """Rewrite the manifest of a mutated bundle, so that hashes, digest and version are those of its files."""
    manifest = json.loads((folder / names.MANIFEST).read_text(encoding="utf-8"))
    program, constants = folder / names.PROGRAM, {}
    try:
        manifest["program_digest"] = Program.from_json(program.read_bytes(), {}).digest
        constants = read_weights(folder / names.WEIGHTS)
        plan = Plan.from_json((folder / names.PLAN).read_text(encoding="utf-8"))
        manifest["model_version"] = _version(folder, plan, constants)
    except (MpccError, ValueError, RuntimeError, RecursionError):
        pass  # then the reader has something else to refuse first
    manifest["files"] = {name: _hash(folder / name) for name in manifest["files"] if (folder / name).is_file()}
    (folder / names.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _hash(path: Path) -> str:
    if hasattr(names, "hash_of"):
        owner: Any = importlib.import_module("mpcc.bundle.owner")
        return str(names.hash_of(path, owner.read_key(path.parent)))
    return names.sha256(path)


def _version(folder: Path, plan: Plan, constants: dict[str, Tensor]) -> str:
    if hasattr(names, "hash_of"):
        owner: Any = importlib.import_module("mpcc.bundle.owner")
        return str(owner.version_of(plan, constants, owner.read_key(folder)))
    return read_manifest(folder).model_version


# ----------------------------------------------------------------------------------------------------------- cases


def bundle_case(number: int, folder: Path) -> Callable[[], Found]:
    draw = random.Random(f"bundle {number}")
    what, may_change, contents = mutation(draw)
    place = folder / "case.mpcc"
    shutil.rmtree(place, ignore_errors=True)
    for name, content in {**original().files, **contents}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    if names.MANIFEST not in contents:
        fitted(place)

    def read() -> Found:
        found = _used(place, may_change, check=names.PLAN in contents or names.MODEL in contents)
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


def _used(place: Path, may_change: bool, check: bool) -> Found:
    """Open, check, show, emulate, run."""
    bundle = open_bundle(place)
    executable, program = Executable.of(bundle), bundle.program
    check_masks(program)
    image = original().image
    if any(node.meta["val"].numel() > LARGE for graph in (program.online, program.dealer) for node in graph.graph.nodes if node.op != "output"):
        return Found("bundle", "accepted, not compared", "too large to run here")
    if executable.input_shapes != [tuple(image.shape)]:
        image = torch.zeros(executable.input_shapes[0])
    if check and executable.reference is not None:
        executable.outside(image)
    answer = Emulator(program)(*[image for _ in executable.input_shapes])[0]
    same = answer.shape == original().answer.shape and bool((answer - original().answer).abs().max() <= 1e-6)
    if not same and not may_change:
        return Found("bundle", "WRONG", "another answer")
    private = privately(program, [image for _ in executable.input_shapes])[0]
    size = max(1.0, float(answer.abs().max()))
    if not bool((private - answer).abs().max() <= TOLERANCE * size):
        return Found("bundle", "WRONG", f"private run {private.flatten()[:3].tolist()}, emulation {answer.flatten()[:3].tolist()}")
    return Found("bundle", "accepted, right" if same else "another model")


def privately(program: Program, inputs: list[Tensor]) -> list[Tensor]:
    """The private run with fixed seeds: dealer and both parties one after another in this process."""
    recipe, seeds, own = Recipe(program), (Seeds(b"a" * 32, b"b" * 32), Seeds(b"c" * 32, b"d" * 32)), Seeds(b"e" * 32, b"f" * 32)
    parties = Party(program, 0), Party(program, 1)

    def dealt(setup: bool) -> list[dict[str, Any]]:
        mine, theirs = (recipe.expand(party, seeds[party], setup) for party in (0, 1))
        travelling = [share for share, _, _ in recipe.travelling(setup)]
        return [mine, theirs | dict(zip(travelling, recipe.deal(seeds, own, setup), strict=True))]

    sent = [party.setup_message(shares) for party, shares in zip(parties, dealt(True), strict=True)][0]
    assert sent is not None
    for party, shares in zip(parties, dealt(False), strict=True):
        party.finish_setup(sent)
        party.prepare(shares)
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
    draw = random.Random(f"plan {number}")
    document = json.loads(original().files[names.PLAN])
    if draw.random() < 0.2:
        site = draw.choice(list(document["sites"]))
        index = draw.choice([[10**9], [0, 2**62], [-1], [0], list(range(5000)), [0, 0], [1, 0], [0.5]])
        parts = [{"index": index, **document["sites"][site]}, {"index": [1], **document["sites"][site]}]
        document["sites"][site] = {"dim": draw.choice([0, 1, 2, -1, 99, 2**63]), "parts": parts}
        what = f"parts {str(index)[:30]}"
    else:
        inside = [path for path in _places(document) if path[0] == "sites"]
        what = _put(document, draw.choice(inside), draw)
    content = _text(document, draw)

    def read() -> Found:
        schedule(original().prepared, Plan.from_json(content))
        return Found("plan", "accepted, runs")

    return _named(f"plan: {what}", read)


# ------------------------------------------------------------------------------------------------------------ runs

RAN: list[str] = []
WATCHED = ("exec", "compile", "import", "open", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")


def _audit(event: str, args: Any) -> None:
    """Hooks cannot be taken away again, so this one is quick and looks for the token alone (or for what nothing here does)."""
    if event not in WATCHED:
        return
    if event not in ("exec", "compile", "import", "open"):
        RAN.append(f"{event} {args!r}"[:200])
    elif event == "exec":
        if args[0] is not None and TOKEN in str(args[0].co_names) + str(args[0].co_consts):
            RAN.append("exec")
    elif TOKEN in str(args[:2]) and "fuzz_bundles" not in str(args[:2]):
        RAN.append(f"{event} {args!r}"[:200])


@cache
def watch() -> None:
    """From now on, see what runs."""
    original()
    sys.addaudithook(_audit)


KINDS: dict[str, tuple[Callable[[int, Path], Callable[[], Found]], int]] = {"bundle": (bundle_case, 2000), "plan": (plan_case, 400)}


def fuzz(part: float = 1.0) -> Iterator[tuple[int, Found]]:
    """(number, what became of it) of every bundle and plan, `part` of the usual number."""
    watch()
    with tempfile.TemporaryDirectory() as name:
        for kind, (make, count) in KINDS.items():
            for number in range(max(1, round(count * part))):
                found = judged(kind, make(number, Path(name)))
                yield number, Found(kind, found.verdict, found.what)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", type=float, default=1.0, help="the part of the files that is tried")
    part = parser.parse_args().part
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    counts: dict[tuple[str, str], int] = {}
    for number, one in fuzz(part):
        counts[one.kind, one.verdict] = counts.get((one.kind, one.verdict), 0) + 1
        if one.verdict.isupper():
            print(f"{one.verdict} {one.kind} {number}: {one.what}", file=sys.stderr, flush=True)
    print(counts)


if __name__ == "__main__":
    main()
