"""program.json is read as if an enemy wrote it: whatever is in it is refused by name, and none of it ever runs."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from mpcc.errors import BundleError, SecurityError
from mpcc.ir import mpc
from mpcc.lowering import lower
from mpcc.program.check import check_masks
from mpcc.program.program import Program
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.engine.evaluate import Party
from tests.models.programs import NAMES, build, graph_of, program

Path_ = tuple[Any, ...]
SENTINEL = "MPCC_SENTINEL"


@cache
def text_of(name: str) -> str:
    return moved().to_json() if name == "moved" else program(name).to_json()


def moved() -> Program:
    """Views, gathers, public masks, products of two secrets."""

    def function(x: Any) -> Any:
        y = mpc.scale_rows(mpc.apply_mask(mpc.gather(x, 1, [0, 2, 1, 4, 3]), (1, 5, 1), "b8"), (1, 5, 1), (1, 2, 3, 4, 5))
        halves = [mpc.gather(y, 2, list(range(i, i + 8))) for i in (0, 8)]
        scores = mpc.matmul(halves[0], torch.ops.aten.permute.default(halves[1], [0, 2, 1]))
        return mpc.sum(torch.ops.aten.cat.default([scores, scores], -1), [1], True)

    return build(function)


def document(name: str = "mixed") -> Any:
    return json.loads(text_of(name))


def read(made: Any) -> Program:
    return Program.from_json(json.dumps(made), {})


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every value of a document that holds no other, and where it is."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from leaves(child, (*path, key))
    if not isinstance(value, dict | list) or not value:
        yield path, value


def put(made: Any, path: Path_, value: Any) -> None:
    for key in path[:-1]:
        made = made[key]
    made[path[-1]] = value


def fields(name: str) -> list[Path_]:
    """One path for each place in each kind of row."""
    made, found = document(name), dict[Any, Path_]()
    for path, value in leaves(made):
        row = made[path[0]][path[1]] if path[0] in ("online", "dealer") else {}
        op = row.get("op") if path[2:3] == ("args",) else None
        found.setdefault((path[0], op, type(value), *path[2:4], len(path)), path)
    return list(found.values())


FIELDS = [(name, path) for name in ("mixed", "moved") for path in fields(name)]
TEXT_FIELDS = [(name, path) for name, path in FIELDS if isinstance(dict(leaves(document(name)))[path], str)]
HOSTILE = (
    f"zz=__import__('pathlib').Path('{SENTINEL}').write_text('x')",
    f"x):\n    open('{SENTINEL}', 'w')\n    return (x",
    f"x'); open('{SENTINEL}', 'w') #",
    "__import__('os').system",
    "class",
    "torch.load",
    "\x1b[31mred\x1b[0m",
    "a\ud800",
    "",
    "a" * 100_000,
)


@cache
def watch() -> list[str]:
    """What Python compiles or executes, as long as something looks: hooks cannot be taken away again."""
    seen: list[str] = []
    sys.addaudithook(lambda event, args: seen.append(event) if event in ("exec", "compile", "os.system", "import") else None)
    return seen


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test fails if anything was executed, compiled, imported or written meanwhile."""
    used(read(document()), copy.deepcopy)  # imports what it needs
    monkeypatch.chdir(tmp_path)
    seen = watch()
    before = len(seen)
    yield
    assert seen[before:] == []
    assert list(tmp_path.iterdir()) == []


def used(made: Program, step: Callable[[Any], Any] = lambda made: made) -> None:
    """Checked, copied, written, compiled to steps and emulated, as commands do."""
    check_masks(made)
    made = step(made)
    made.to_json()
    Party(made, 1)
    weights = {name: torch.zeros(tensor.shape) for name, tensor in made.constants.items()}
    made = Program(made.online, made.dealer, made.correlations, made.outputs, weights, made.failures)
    Emulator(made)(*(torch.zeros(node.meta["val"].shape) for node in made.inputs()))


@pytest.mark.parametrize("name", [*NAMES, "moved"])
def test_what_is_written_is_read(name: str) -> None:
    text = text_of(name)
    made = Program.from_json(text, {})
    assert made.to_json() == text
    again = Program.from_json(text.encode(), {})
    assert again.digest == made.digest


def test_reading_gives_what_lowering_made() -> None:
    made, again = program("mixed"), Program.from_json(text_of("mixed"), {})
    assert (again.cost, again.correlations, again.outputs, again.failures) == (
        made.cost, made.correlations, made.outputs, made.failures
    )  # fmt: skip
    assert [(n.name, n.args, n.meta["info"]) for n in map(str_args, again.online.graph.nodes)] == [
        (n.name, n.args, n.meta["info"]) for n in map(str_args, made.online.graph.nodes)
    ]


def test_a_layer_of_any_name_can_be_written_and_read() -> None:
    module = graph_of(lambda x: mpc.square(mpc.scale(x, 0.5)))
    for node in module.graph.nodes:
        node.meta |= {"layer": "a\nb" + "c" * 2000, "site": "\x1b[0m"}
    made = lower(module)
    assert Program.from_json(made.to_json(), {}).to_json() == made.to_json()
    assert "a?b" in made.to_json()


def str_args(node: Any) -> Any:
    """The node, with its arguments as text and an Info even of the output."""
    copied = copy.copy(node.__dict__)
    return type("Seen", (), {**copied, "name": node.name, "args": str(node.args), "meta": {"info": node.meta.get("info")}})


@pytest.mark.parametrize(("name", "path"), TEXT_FIELDS, ids=str)
def test_no_text_of_a_file_runs(name: str, path: Path_, nothing_runs: None) -> None:
    """Hostile text in every field that holds text, alone and in every place where the same text stands."""
    old = dict(leaves(document(name)))[path]
    for text in HOSTILE:
        for everywhere in (False, True):
            made = document(name)
            for place, value in list(leaves(made)):
                if place == path or (everywhere and value == old):
                    put(made, place, text)
            try:
                used(read(made), copy.deepcopy)
            except (BundleError, SecurityError) as error:
                assert str(error).isascii() and "\x1b" not in str(error) and len(str(error)) < 1000


@pytest.mark.parametrize("key", ["zz=1", "lambda", f"x=open('{SENTINEL}','w')", "kwargs", "phase", "val"])
def test_unknown_keys_are_refused(key: str, nothing_runs: None) -> None:
    for path in ((), ("online", 0), ("online", 0, "origin"), ("dealer", 0)):
        made = document()
        inner = made
        for part in path:
            inner = inner[part]
        inner[key] = {key: 1}
        with pytest.raises(BundleError, match="key"):
            read(made)


WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 7, 64, 2**31, 2**62, 2**64, 10**30, -0.5, 1e-300, 1e300, "x", "mask", [], {}, [0], ["x"], [2**40, 2**40],
    [1] * 100, {"node": "x"},
)  # fmt: skip


@pytest.mark.parametrize(("name", "path"), FIELDS, ids=str)
def test_a_changed_field_is_refused_or_means_something(name: str, path: Path_) -> None:
    """Every field, changed to anything: a BundleError, a fault of masks, or a program that runs."""
    for value in WRONG:
        made = document(name)
        put(made, path, value)
        try:
            used(read(made))
        except BundleError as error:
            assert "program.json" in str(error)
        except SecurityError:
            pass


@pytest.mark.parametrize(("name", "path"), FIELDS, ids=str)
def test_a_missing_field_is_refused_or_means_something(name: str, path: Path_) -> None:
    made = document(name)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    try:
        used(read(made))
    except (BundleError, SecurityError):
        pass


def row(op: str, level: str = "online") -> Any:
    made = document()
    return made, next(row for row in made[level] if row["op"] == op)


def changed(of: str, level: str = "online", /, **fields: Any) -> Any:
    made, one = row(of, level)
    one.update(fields)
    return made


def argument(op: str, place: int, value: Any, level: str = "online") -> Any:
    made, one = row(op, level)
    one["args"][place] = value
    return made


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a placeholder that is code": (lambda: changed("input", name="zz=1"), r"node 'zz=1': 'zz=1' is not a valid name"),
    "a keyword": (lambda: changed("input", name="lambda"), "'lambda' is not a valid name"),
    "a builtin": (lambda: changed("input", name="print"), "the name is reserved"),
    "a long name": (lambda: changed("input", name="a" * 201), "is not a valid name"),
    "a name twice": (lambda: changed("open", name="input_0"), "node 'input_0': the name is taken"),
    "an unknown operation": (lambda: changed("open", op="online.open_"), "node 'open_': unknown operation 'online.open_'"),
    "an operation of the dealer": (lambda: changed("open", op="mask"), "unknown operation 'mask'"),
    "an input at the dealer": (lambda: changed("mask", "dealer", op="input"), "unknown operation 'input'"),
    "a forward reference": (lambda: argument("open", 0, "reveal"), "argument 1: 'reveal' is not a value computed before it"),
    "too few arguments": (lambda: changed("power_sum", args=[]), "0 arguments, 6 are needed"),
    "too many arguments": (lambda: changed("reveal", args=["a", "b"]), "a list of 2 entries, more than 1"),
    "a flag for a number": (lambda: argument("leaves", 2, True), "True is not an integer"),
    "a scale of zero": (lambda: argument("input", 1, 0), "0 is not a scale"),
    "a scale that overflows": (lambda: argument("input", 1, 1e300), "is not a scale"),
    "a shift beyond the ring": (lambda: argument("power_sum", 1, 64), "64 is not between 0 and 63"),
    "a shift beyond the opening": (lambda: argument("power_sum", 1, 63), "a shift of 63 bits in a ring of"),
    "a ring without a half": (lambda: argument("open", 1, 2), "2 is not between 3 and 64"),
    "a negative size": (lambda: argument("input", 2, [-1, 5, 16]), "-1 is not between 1"),
    "a huge size": (lambda: argument("input", 2, [2**20, 2**20]), "more than 1073741824 elements"),
    "a wrong shape": (lambda: argument("weight", 2, [8, 17]), "do not broadcast"),
    "a map that is not bilinear": (lambda: argument("weight_product", 0, "eval"), "'eval' is not one of mul, matmul"),
    "a mask that is none": (lambda: argument("mask", 0, "x", "dealer"), "'x' is not a list"),
    "a layer with control characters": (lambda: changed("open", origin={"layer": "\x1b[31m"}), "not printable text"),
    "an output that is no output": (lambda: document() | {"outputs": [["open_", 1.0]]}, "not a revealed value"),
    "no output": (lambda: document() | {"outputs": []}, "fewer than 1"),
    "an impossible failure": (lambda: document() | {"failures": [["l", 1, 1.5]]}, "1.5 is not a finite number between 0 and 1"),
    "an earlier format": (lambda: document() | {"version": 2}, "earlier mpcc .format 2.*\n.*mpcc optimize"),
    "a later format": (lambda: document() | {"version": 5}, "not a program of format 4"),
    "no document": (lambda: [], "not a program of format 4"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_named(what: str) -> None:
    make, message = REFUSED[what]
    with pytest.raises(BundleError, match=message):
        read(make())


TEXTS: dict[str, tuple[str | bytes, str]] = {
    "nested": ("[" * 100_000 + "]" * 100_000, "too deep"),
    "nested objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, "too deep"),
    "not UTF-8": (b'{"version": 4, "\xff": 1}', "utf-8"),
    "a huge integer": ('{"version": 4, "online": ' + "9" * 10_000 + "}", "damaged"),
    "NaN": ('{"version": 4, "outputs": [["r", NaN]]}', "NaN is not a finite number"),
    "a key twice": ('{"version": 4, "version": 4}', "a key stands twice"),
    "nothing": ("", "damaged"),
    "half": (text_of("local")[:500], "damaged"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_text_that_is_no_program(what: str) -> None:
    text, message = TEXTS[what]
    with pytest.raises(BundleError, match=re.compile(message)):
        Program.from_json(text, {}, where="program.json")
