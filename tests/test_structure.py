"""The house rules of docs/architecture.md, held by reading every file: rooms, foreign packages, sizes, first lines."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("mpcc", "passes", "costmodels")
ALL = (*SHIPPED, "tests", "examples", "benchmarks")
MOST_LINES = 400

PLUGINS = {"passes", "costmodels"}
SEEN_BY_ALL = {"errors", "security"}
# What each room may import besides itself and what is seen by all. An arrow only points down: a room sees rooms above
# it in this table, never below. A new room is a failure until it stands here.
MAY_SEE = {
    "errors": set[str](),
    "security": set[str](),
    "ir": set[str](),
    "fitting": set[str](),
    "rewrite": {"ir"},
    "cost": {"ir"},
    "program": {"ir"},
    "approximate": {"ir", "fitting", "rewrite"},
    "registry": {"rewrite", "approximate", "cost"},
    "passes": {"ir", "fitting", "rewrite", "approximate"},
    "costmodels": {"ir", "cost"},
    "frontend": {"ir"},
    "calibration": {"ir", "approximate"},
    "lowering": {"ir", "program"},
    "search": {"ir", "rewrite", "approximate", "cost", "program", "lowering", "calibration", "registry"},
    "bundle": {"ir", "approximate", "program", "frontend"},
    "show": {"approximate", "cost", "program", "search", "bundle"},
    "runtime": {"ir", "cost", "program", "lowering", "approximate", "calibration", "registry", "bundle", "show"},
    "pipeline": {
        "ir", "rewrite", "approximate", "cost", "program", "lowering", "frontend", "calibration", "search", "registry",
        "show", "runtime",
    },  # fmt: skip
    "verify": {"ir", "fitting", "approximate", "calibration", "lowering", "registry", "runtime", "pipeline"},
    "training": {
        "ir", "approximate", "cost", "program", "lowering", "calibration", "search", "registry", "runtime", "pipeline",
    },  # fmt: skip
    "testing": {"cost", "runtime", "pipeline"},
    "cli": {
        "ir", "rewrite", "approximate", "cost", "program", "lowering", "frontend", "calibration", "search", "registry",
        "bundle", "show", "runtime", "pipeline", "verify", "training",
    },  # fmt: skip
}
# A foreign package, and the only folder that imports it.
HOMES = {
    "crypten": "mpcc/runtime/crypten",
    "onnx": "mpcc/frontend/",
    "onnx_ir": "mpcc/frontend/",
    "onnxruntime": "mpcc/frontend/",
    "onnxscript": "mpcc/frontend/",
    "spu": "mpcc/runtime/spu/",
    "jax": "mpcc/runtime/spu/",
}
# Formats that run code when they are read.
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "torch.load"}


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if "data" not in path.parts)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name(path))


def room(path: Path) -> str:
    """`ir` of mpcc/ir/nn.py, `errors` of mpcc/errors.py, `passes` of passes/x.py, `` of mpcc/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    inside = parts[1] if parts[0] == "mpcc" else parts[0]
    return "" if inside == "__init__" else inside


def package(path: Path) -> list[str]:
    """The dotted package that relative imports of the file start from, as it is installed."""
    parts = list(path.relative_to(ROOT).parent.parts)
    return parts if parts[0] == "mpcc" else ["mpcc", *parts]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, relative ones resolved; `from mpcc import ir` counts as mpcc.ir."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package(path)[: len(package(path)) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            if source == "mpcc":
                yield from ((node.lineno, f"mpcc.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, source


def room_faults(path: Path) -> Iterator[str]:
    here = room(path)
    if here == "":
        return
    if here not in MAY_SEE:
        yield f"{name(path)}: MAY_SEE says nothing about the room {here!r}"
        return
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] != "mpcc" or len(parts) == 1:
            continue
        if parts[1] not in {here, *SEEN_BY_ALL, *MAY_SEE[here]}:
            yield f"{name(path)}:{line}: {here} imports {module}"


def plugin_faults(path: Path) -> Iterator[str]:
    if room(path) in PLUGINS:
        return
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] in PLUGINS or (parts[0] == "mpcc" and parts[1:2] and parts[1] in PLUGINS):
            yield f"{name(path)}:{line}: imports the plug-in {module} by name (ask mpcc.registry)"


def home_faults(path: Path) -> Iterator[str]:
    for line, module in imports(path):
        home = HOMES.get(module.split(".")[0])
        if home is not None and not name(path).startswith(home):
            yield f"{name(path)}:{line}: imports {module}, which belongs in {home}"


def unsafe_faults(path: Path) -> Iterator[str]:
    for line, module in imports(path):
        if module.split(".")[0] in UNSAFE_MODULES:
            yield f"{name(path)}:{line}: imports {module}, which runs code that it reads"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS:
            yield f"{name(path)}:{node.lineno}: calls {ast.unparse(node.func)}"


def machine_faults(path: Path) -> Iterator[str]:
    """Prices depend on what they are given: only the command line and the pipeline look up a machine's figures."""
    if room(path) in {"cli", "pipeline"} or name(path) == "mpcc/cost/machine.py":
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"Machine.read", "Machine.asked"}:
            yield f"{name(path)}:{node.lineno}: {ast.unparse(node)} (take a Compute as an argument)"


def size_faults(path: Path) -> Iterator[str]:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > MOST_LINES:
        yield f"{name(path)}: {lines} lines, more than {MOST_LINES}"


def first_line_faults(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if path.name == "__init__.py" and not text:
        return
    if ast.get_docstring(tree(path)) is None or not text.startswith(('"""', 'r"""')):
        yield f"{name(path)}: the first line is not a docstring that says what the file is for"


RULES: list[tuple[Callable[[Path], Iterator[str]], tuple[str, ...]]] = [
    (room_faults, SHIPPED),
    (plugin_faults, ("mpcc",)),
    (home_faults, SHIPPED),
    (unsafe_faults, SHIPPED),
    (machine_faults, SHIPPED),
    (size_faults, ALL),
    (first_line_faults, ALL),
]


@pytest.mark.parametrize(("rule", "folders"), RULES, ids=[rule.__name__ for rule, _ in RULES])
def test_every_file_keeps_the_rule(rule: Callable[[Path], Iterator[str]], folders: tuple[str, ...]) -> None:
    faults = [fault for path in files(*folders) for fault in rule(path)]
    assert not faults, "\n" + "\n".join(faults)


def test_every_folder_is_packaged() -> None:
    """A folder without __init__.py would be left out of the wheel."""
    folders = {path.parent for path in files(*SHIPPED)}
    assert [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        ("mpcc/ir/x.py", "from mpcc.rewrite import Pass", room_faults),
        ("mpcc/ir/x.py", "from ..rewrite import Pass", room_faults),
        ("mpcc/frontend/x.py", "def f():\n    from mpcc import search", room_faults),
        ("mpcc/rewrite/x.py", "import mpcc.cost", room_faults),
        ("passes/x.py", "from mpcc.cost import Protocol", room_faults),
        ("mpcc/attic/x.py", "import os", room_faults),
        ("mpcc/cli/x.py", "from mpcc.passes.gelu import GELU", plugin_faults),
        ("mpcc/pipeline.py", "from mpcc import costmodels", plugin_faults),
        ("mpcc/lowering/x.py", "import crypten.mpc", home_faults),
        ("mpcc/cli/x.py", "import onnx", home_faults),
        ("costmodels/x.py", "import spu", home_faults),
        ("mpcc/runtime/x.py", "import pickle", unsafe_faults),
        ("mpcc/runtime/x.py", "import torch\ntorch.load('x')", unsafe_faults),
        ("passes/x.py", "eval('1')", unsafe_faults),
        ("mpcc/search/x.py", "Machine.read().compute", machine_faults),
    ],
)
def test_a_breach_is_found(
    path: str, source: str, rule: Callable[[Path], Iterator[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "tree", lambda _: ast.parse(source))
    assert len(list(rule(ROOT / path))) == 1


def test_model_eval_is_no_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "tree", lambda _: ast.parse("model.eval()\ntorch.export.load('x.pt2')"))
    assert list(unsafe_faults(ROOT / "mpcc/frontend/x.py")) == []
