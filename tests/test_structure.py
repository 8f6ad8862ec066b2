"""The house rules of docs/architecture.md, held by reading every file; each rule is also shown to find a planted breach."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mpcc import registry
from mpcc.approximate import Approximation
from mpcc.approximate.recipe import Recipe
from mpcc.cost import Protocol
from mpcc.rewrite import Pass

ROOT = Path(__file__).parents[1]
SHIPPED = ("mpcc", "passes", "costmodels")
ALL = (*SHIPPED, "tests", "examples", "benchmarks")
MOST_LINES = 400

PLUGINS = {"passes", "costmodels"}
SEEN_BY_ALL = {"errors", "files", "security", "workers"}
# What each room may import besides itself and what is seen by all. An arrow only points down: a room sees rooms above
# it in this table, never below (a test holds the table to that). A new room is a failure until it stands here.
MAY_SEE = {
    "errors": set[str](),
    "files": set[str](),
    "security": set[str](),
    "workers": set[str](),
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
    "calibration": {"ir", "approximate", "registry"},
    "lowering": {"ir", "program"},
    "compensate": {"ir", "approximate", "calibration"},
    "search": {"ir", "rewrite", "approximate", "cost", "program", "lowering", "calibration", "registry", "compensate"},
    "bundle": {"ir", "approximate", "program", "frontend"},
    "show": {"ir", "rewrite", "approximate", "cost", "program", "calibration", "search", "bundle"},
    "runtime": {"ir", "cost", "program", "lowering", "approximate", "calibration", "registry", "bundle", "show"},
    "client": set[str](),
    "serving": {"ir", "program", "bundle", "runtime"},
    "pipeline": {
        "ir", "rewrite", "approximate", "cost", "program", "lowering", "frontend", "calibration", "search", "registry",
        "show", "runtime", "compensate",
    },  # fmt: skip
    "verify": {"ir", "fitting", "approximate", "calibration", "lowering", "registry", "runtime", "pipeline"},
    "training": {
        "ir", "approximate", "cost", "program", "lowering", "calibration", "search", "registry", "runtime", "pipeline",
        "compensate",
    },  # fmt: skip
    "testing": {
        "ir", "rewrite", "approximate", "cost", "calibration", "search", "registry", "runtime", "pipeline", "training",
    },  # fmt: skip
    "cli": {
        "ir", "rewrite", "approximate", "cost", "program", "lowering", "frontend", "calibration", "search", "registry",
        "bundle", "show", "runtime", "pipeline", "verify", "training", "client", "serving",
    },  # fmt: skip
    "__main__": {"cli"},
}
# A foreign package, and the only places that import it.
HOMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("dask", "joblib", "ray"), ("mpcc/workers.py",)),
    "cryptography": ("mpcc/runtime/", "mpcc/cli/"),
    "crypten": ("mpcc/runtime/crypten",),
    "fastapi": ("mpcc/serving/",),
    "jax": ("mpcc/runtime/spu/",),
    "jinja2": ("mpcc/show/",),
    "matplotlib": ("mpcc/show/",),
    "onnx": ("mpcc/frontend/",),
    "onnx_ir": ("mpcc/frontend/",),
    "onnxruntime": ("mpcc/frontend/", "mpcc/client/prefix.py"),
    "onnxscript": ("mpcc/frontend/",),
    "prometheus_client": ("mpcc/serving/",),
    "pytest": ("mpcc/testing",),
    "rich": ("mpcc/cli/", "mpcc/show/", "mpcc/cost/", "mpcc/testing"),  # cost: `Estimate.table` is public
    "sklearn": ("mpcc/training/",),
    "spu": ("mpcc/runtime/spu/",),
    "starlette": ("mpcc/serving/",),
    "sympy": ("mpcc/cost/", "mpcc/testing", "costmodels/"),
    "typer": ("mpcc/cli/",),
    "uvicorn": ("mpcc/serving/",),
}
# What several plug-ins share and the core does not know. Nothing else in a plug-in folder may begin with `_`.
SHARED_BY_PLUGINS = {"costmodels/_crypten_functions.py", "costmodels/_spu.py"}
# Folders of tests that mirror no room: what tests and benchmarks share, text that is compared, the op-count guard.
OTHER_TESTS = {"models", "golden", "guard"}
# Formats that run code when they are read.
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "joblib.load"}
# Ways to import a file past its package.
PATH_TRICKS = re.compile(r"\bsys\.path\b|\brunpy\b|\bspec_from_file_location\b|\bSourceFileLoader\b")


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if "data" not in path.parts)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), filename=name(path))


def room(path: Path) -> str:
    """`ir` of mpcc/ir/nn.py, `errors` of mpcc/errors.py, `passes` of passes/x.py, `` of mpcc/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    inside = parts[1] if parts[0] == "mpcc" else parts[0]
    return "" if inside == "__init__" else inside


def package(path: Path) -> list[str]:
    """The dotted package that relative imports of the file start from, as it is installed."""
    parts = list(path.relative_to(ROOT).parent.parts)
    return parts if parts[0] == "mpcc" else ["mpcc", *parts]


def names_imported(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """(line, dotted module, name taken from it or None) of every import, lazy ones and those for types too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package(path)[: len(package(path)) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, source, alias.name) for alias in node.names)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, relative ones resolved; `from mpcc import ir` counts as mpcc.ir."""
    found = ((line, f"mpcc.{taken}" if source == "mpcc" else source) for line, source, taken in names_imported(path))
    yield from dict.fromkeys(found)


def import_graph(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Dotted module -> the modules among `paths` that it imports; a package is its __init__.py."""
    modules = {".".join([*package(path), *([path.stem] if path.stem != "__init__" else [])]): path for path in paths}
    found = {}
    for module, path in modules.items():
        seen = {f"{source}.{taken}" if f"{source}.{taken}" in modules else source for _, source, taken in names_imported(path)}
        found[module] = (seen & set(modules)) - {module}
    return found


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """Pairs of modules of different rooms that import each other, directly or by way of others."""
    below = {module: reached(graph, module) for module in graph}
    rooms = {module: ".".join(module.split(".")[:2]) for module in graph}
    return [
        f"{one} and {other} import each other"
        for one in graph
        for other in below[one]
        if one < other and one in below[other] and rooms[one] != rooms[other]
    ]


def reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    ahead = [start]
    while ahead:
        new = graph[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def order_faults(table: Mapping[str, set[str]]) -> Iterator[str]:
    """Where a room sees one that does not stand above it: a circle of rooms cannot be written down without."""
    above: set[str] = set()
    for here, seen in table.items():
        yield from (f"{here} sees {other}, which does not stand above it" for other in sorted(seen - above))
        above.add(here)


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
            yield f"{name(path)}:{line}: imports {module}, which belongs in {' or '.join(home)}"


def trick_faults(path: Path) -> Iterator[str]:
    if path == Path(__file__):
        return
    for number, line in enumerate(text(path).splitlines(), 1):
        yield from (f"{name(path)}:{number}: {trick} (import it by its package)" for trick in PATH_TRICKS.findall(line))


def helper_faults(path: Path) -> Iterator[str]:
    if path.name.startswith("_") and path.name != "__init__.py" and name(path) not in SHARED_BY_PLUGINS:
        yield f"{name(path)}: a plug-in folder holds plug-ins alone; what they share belongs in a room of mpcc/"


def offered_faults(module: ModuleType) -> Iterator[str]:
    """A plug-in's module binds one plug-in, which is called as the file is."""
    kinds = (Approximation, Pass, Protocol, Recipe)
    own = [value.name for value in {id(v): v for v in vars(module).values() if isinstance(v, kinds)}.values()]
    if [plugin.replace("-", "_").replace("+", "_plus") for plugin in own] != [module.__name__.rpartition(".")[2]]:
        yield f"{module.__name__}: holds {', '.join(own) or 'no plug-in'}, not one plug-in with the file's name"


def unsafe_faults(path: Path) -> Iterator[str]:
    for line, module in imports(path):
        if module.split(".")[0] in UNSAFE_MODULES:
            yield f"{name(path)}:{line}: imports {module}, which runs code that it reads"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS:
            yield f"{name(path)}:{node.lineno}: calls {ast.unparse(node.func)}"


def machine_faults(path: Path) -> Iterator[str]:
    """Prices depend on what they are given: only the command line and the pipeline look up a machine's figures."""
    if room(path) in {"cli", "pipeline"} or name(path) in {"mpcc/cost/machine.py", "mpcc/runtime/this_machine.py"}:
        return
    renamed = {
        alias.asname for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom) for alias in node.names
        if alias.name == "Machine" and alias.asname
    }  # fmt: skip
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node.attr in {"read", "kept", "named"}:
            if ast.unparse(node.value).rpartition(".")[2] in {"Machine", *renamed}:
                yield f"{name(path)}:{node.lineno}: {ast.unparse(node)} (take a Compute as an argument)"
    for line, module in imports(path):
        if module == "mpcc.runtime.this_machine":
            yield f"{name(path)}:{line}: {module}, which measures (take a Compute as an argument)"


def size_faults(path: Path) -> Iterator[str]:
    lines = len(text(path).splitlines())
    if lines > MOST_LINES:
        yield f"{name(path)}: {lines} lines, more than {MOST_LINES}"


def first_line_faults(path: Path) -> Iterator[str]:
    if path.name == "__init__.py" and not text(path):
        return
    if ast.get_docstring(tree(path)) is None or not text(path).startswith(('"""', 'r"""')):
        yield f"{name(path)}: the first line is not a docstring that says what the file is for"


RULES: list[tuple[Callable[[Path], Iterator[str]], tuple[str, ...]]] = [
    (room_faults, SHIPPED),
    (plugin_faults, ("mpcc",)),
    (home_faults, SHIPPED),
    (unsafe_faults, SHIPPED),
    (machine_faults, SHIPPED),
    (size_faults, ALL),
    (first_line_faults, ALL),
    (helper_faults, tuple(sorted(PLUGINS))),
    (trick_faults, ("tests", "benchmarks", "examples")),
]


@pytest.mark.parametrize(("rule", "folders"), RULES, ids=[rule.__name__ for rule, _ in RULES])
def test_every_file_keeps_the_rule(rule: Callable[[Path], Iterator[str]], folders: tuple[str, ...]) -> None:
    faults = [fault for path in files(*folders) for fault in rule(path)]
    assert not faults, "\n" + "\n".join(faults)


def test_every_folder_is_a_package() -> None:
    """A folder without __init__.py would be left out of the wheel, and cannot be imported from by name."""
    folders = {path.parent for path in files(*ALL)}
    assert [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_tests_mirror_the_rooms() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if (path / "__init__.py").exists()}
    assert folders - set(MAY_SEE) <= OTHER_TESTS


def test_a_room_sees_only_what_stands_above_it() -> None:
    assert list(order_faults(MAY_SEE)) == []


def test_no_circle_between_files_of_different_rooms() -> None:
    assert circles(import_graph(files(*SHIPPED))) == []


def test_every_plug_in_has_a_file_of_its_name() -> None:
    modules = [*registry.plugin_modules(registry.PASSES), *registry.plugin_modules(registry.COSTMODELS)]
    faults = [fault for module in modules for fault in offered_faults(module)]
    assert not faults, "\n" + "\n".join(faults)


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
        ("mpcc/ir/x.py", '"""x"""\n' * (MOST_LINES + 1), size_faults),
        ("mpcc/ir/x.py", "import os", first_line_faults),
        ("mpcc/ir/x.py", '# x\n"""x"""', first_line_faults),
        ("passes/gelu/_x.py", "", helper_faults),
        ("tests/ir/x.py", "sys.path.insert(0, 'x')", trick_faults),
        ("benchmarks/x.py", "from importlib.util import spec_from_file_location", trick_faults),
        ("mpcc/search/x.py", "Machine.read().compute", machine_faults),
        ("mpcc/search/x.py", "from mpcc.runtime.this_machine import speed_of", machine_faults),
        ("mpcc/search/x.py", "from mpcc.cost import machine\nmachine.Machine.kept()", machine_faults),
        ("mpcc/search/x.py", "from mpcc.cost.machine import Machine as M\nM.read()", machine_faults),
    ],
)
def test_a_breach_is_found(
    path: str, source: str, rule: Callable[[Path], Iterator[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, {path: source})
    assert len(list(rule(ROOT / path))) == 1


def planted(monkeypatch: pytest.MonkeyPatch, sources: Mapping[str, str]) -> list[Path]:
    """Files that are read as these sources."""
    monkeypatch.setitem(globals(), "text", lambda path: sources[name(path)])
    monkeypatch.setitem(globals(), "tree", lambda path: ast.parse(sources[name(path)]))
    return [ROOT / path for path in sources]


@pytest.mark.parametrize(
    ("sources", "count"),
    [
        ({"mpcc/a/x.py": "from mpcc.b import y", "mpcc/b/y.py": "def f():\n    from ..a import x"}, 1),
        ({"mpcc/a/x.py": "import mpcc.b.y", "mpcc/b/y.py": "from mpcc.c.z import f", "mpcc/c/z.py": "import mpcc.a.x"}, 3),
        ({"mpcc/a/x.py": "from mpcc import b", "mpcc/b/__init__.py": "if TYPE_CHECKING:\n    from mpcc.a.x import X"}, 1),
        ({"mpcc/a/x.py": "from mpcc.b import y", "mpcc/b/y.py": "from mpcc.a import z", "mpcc/a/z.py": "import os"}, 0),
        ({"mpcc/a/x.py": "from . import y", "mpcc/a/y.py": "from . import x"}, 0),  # of one room
    ],
)
def test_a_circle_is_found(sources: dict[str, str], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(circles(import_graph(planted(monkeypatch, sources)))) == count


@pytest.mark.parametrize("table", [{"ir": {"cost"}, "cost": {"ir"}}, {"ir": {"attic"}}, {"ir": {"ir"}}])
def test_a_table_with_an_arrow_up_is_found(table: dict[str, set[str]]) -> None:
    assert len(list(order_faults(table))) == 1


@pytest.mark.parametrize("plugins", [(), ("y",), ("x", "y")])
def test_a_file_that_is_not_one_plug_in_is_found(plugins: tuple[str, ...]) -> None:
    one: Any = registry.pass_("cse")
    bound = {plugin.upper(): replace(one, name=plugin) for plugin in plugins}
    assert len(list(offered_faults(SimpleNamespace(__name__="mpcc.passes.nn.x", **bound)))) == 1  # type: ignore[arg-type]


def test_model_eval_is_no_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = planted(monkeypatch, {"mpcc/frontend/x.py": "model.eval()\ntorch.export.load('x.pt2')"})
    assert list(unsafe_faults(path)) == []
