"""The bundle that `benchmarks.fuzz_bundles` mutates, and the mutations: each changes one file of it, by a seed."""

from __future__ import annotations

import copy
import json
import random
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import mpcc
from benchmarks.fuzz import FLOATS, INTEGERS, TEXTS
from mpcc.bundle import folder as names
from mpcc.bundle import open_bundle
from mpcc.pipeline import Prepared, prepare
from mpcc.runtime.engine.emulate import Emulator

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
LABELS = {"origin", "end", "failures"}
"""Of program.json: what is shown to people and changes no answer."""
Sort = Literal["label", "number", "wiring"]
"""What was changed: something that no answer depends on, one of the model's numbers, anything else."""
Mutation = tuple[str, Sort, dict[str, bytes]]
"""What was done, its sort, and the new contents of files."""


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
    sort: Sort
    if draw.random() < 0.4:
        what, sort = _edit(document, draw), "wiring"
    else:  # first a kind of place, then one of this kind: there are many rows of few kinds
        groups: dict[Any, list[tuple[Any, ...]]] = {}
        for path in _places(document):
            row = document[path[0]][path[1]] if path[0] in ("online", "dealer") and len(path) > 1 else {}
            kind = (row["op"], *path[2:4], len(path)) if len(path) > 2 and row else (path[0], len(path))
            groups.setdefault(kind, []).append(path)
        path = draw.choice(groups[draw.choice(list(groups))])
        number = isinstance(_inside(document, path), int | float)
        sort = "label" if LABELS & set(map(str, path)) else "number" if number else "wiring"
        what = _put(document, path, draw)
    return f"{names.PROGRAM}: {what}", sort, {names.PROGRAM: _text(document, draw)}


def _edit(document: Any, draw: random.Random) -> str:
    """An edit of a graph: rows in another order, dropped, twice, of another operation, or wired to other values."""
    level = draw.choice(["online", "online", "dealer"])
    rows = document[level]
    one, other = draw.randrange(len(rows)), draw.randrange(len(rows))
    actions = ["swap", "neighbours", "drop", "double", "operation", "wire", "wire", "wire", "rename", "exchange", "output"]
    action = draw.choice(actions)
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
            row, place = draw.choice([(row, n) for row in rows for n, arg in enumerate(row["args"]) if str(arg) in known])
            alike = [r["name"] for r in rows if r["op"] == _op_of(rows, row["args"][place])] or [rows[other]["name"]]
            row["args"][place] = draw.choice([draw.choice(alike), rows[other]["name"]])
            return f"{level}: {row['name']} reads {row['args'][place]}"
    return f"{level}: {action} of {one}, {other}"


def _op_of(rows: Any, name: str) -> str | None:
    return next((row["op"] for row in rows if row["name"] == name), None)


def _plan(draw: random.Random) -> Mutation:
    document = json.loads(original().files[names.PLAN])
    what = _put(document, draw.choice(list(_places(document))), draw)
    return f"{names.PLAN}: {what}", "label", {names.PLAN: _text(document, draw)}


def _manifest(draw: random.Random) -> Mutation:
    document = json.loads(original().files[names.MANIFEST])
    what = _put(document, draw.choice(list(_places(document))), draw)
    return f"{names.MANIFEST}: {what}", "label", {names.MANIFEST: _text(document, draw)}


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
    return f"{names.WEIGHTS}: {what}", "number", {names.WEIGHTS: struct.pack("<Q", said) + text + data}


def _bytes(draw: random.Random) -> Mutation:
    """Any file: bytes changed, a piece cut out, nothing left."""
    name = draw.choice(sorted(original().files))
    content = original().files[name]
    for _ in range(draw.choice([1, 1, 3])):
        start, length = draw.randrange(len(content)), draw.choice([1, 1, 4, 100])
        piece = draw.choice([b"", draw.randbytes(length), bytes(length), content[start : start + length] * 2])
        content = draw.choice([content[:start] + piece + content[start + length :]] * 8 + [content[:start], b""]) or b" "
    sort: Sort = "number" if name in (names.PROGRAM, names.WEIGHTS) else "label"
    return f"{name}: bytes", sort, {name: content}


def mutated_plan(draw: random.Random) -> tuple[str, bytes]:
    """What was done, and the text of a plan: a value changed, or a site cut into parts that do not fit."""
    document = json.loads(original().files[names.PLAN])
    if draw.random() < 0.2:
        site = draw.choice(list(document["sites"]))
        index = draw.choice([[10**9], [0, 2**62], [-1], [0], list(range(5000)), [0, 0], [1, 0], [0.5]])
        parts = [{"index": index, **document["sites"][site]}, {"index": [1], **document["sites"][site]}]
        document["sites"][site] = {"dim": draw.choice([0, 1, 2, -1, 99, 2**63]), "parts": parts}
        what = f"parts {str(index)[:30]}"
    else:
        what = _put(document, draw.choice([path for path in _places(document) if path[0] == "sites"]), draw)
    return what, _text(document, draw)
