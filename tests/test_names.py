"""The core knows no approximation and no option by name: what it needs to know, `Approximation` declares."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from mpcc import registry
from mpcc.approximate.expand import ATTRIBUTES
from mpcc.ir.nn import SITES
from tests import test_structure as structure

# The rooms that handle plans and options without knowing what they mean; the others use such words for other things.
HANDLE_OPTIONS = {"calibration", "search", "training", "show", "verify", "pipeline", "cli", "testing"}


@cache
def approximation_names() -> frozenset[str]:
    """Those that are not an operator's name as well."""
    return frozenset(registry.approximations()) - frozenset(SITES)


@cache
def option_names() -> frozenset[str]:
    """The parameters of approximations' functions, without what the operator or the graph gives them."""
    found = set()
    for one in registry.approximations().values():
        given = {*ATTRIBUTES.get(one.operator, ()), "mask"}
        parameters = inspect.signature(one.function).parameters.values()
        found |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in given}
    return frozenset(found)


def name_faults(path: Path) -> Iterator[str]:
    """What the core knows of an approximation, the approximation declares. Docstrings may give examples."""
    found = structure.tree(path)
    documented = [node for node in ast.walk(found) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(node.body[0].value) for node in documented if node.body and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(found):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            for word in sorted(approximation_names() & set(re.findall(r"\w+", node.value))):
                yield f"{structure.name(path)}:{node.lineno}: names the approximation {word} (let it declare what is needed)"


def option_faults(path: Path) -> Iterator[str]:
    """Keys into options: `options["x"]`, `options.get("x")`, `"x" in options`, `{"x": 1}`, `name in ("x", "y")`."""
    if structure.room(path) not in HANDLE_OPTIONS:
        return
    for node in ast.walk(structure.tree(path)):
        keys: list[ast.expr | None] = []
        if isinstance(node, ast.Subscript):
            keys = [node.slice]
        elif isinstance(node, ast.Dict):
            keys = list(node.keys)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
            keys = list(node.args[:1])
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            several = node.comparators[0]
            keys = [node.left, *(several.elts if isinstance(several, ast.Tuple | ast.Set | ast.List) else ())]
        for key in keys:
            if isinstance(key, ast.Constant) and key.value in option_names():
                yield f"{structure.name(path)}:{key.lineno}: knows the option {key.value!r} (let the approximation declare it)"


@pytest.mark.parametrize("rule", [name_faults, option_faults])
def test_the_core_knows_no_names(rule: Callable[[Path], Iterator[str]]) -> None:
    faults = [fault for path in structure.files("mpcc") for fault in rule(path)]
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        ("mpcc/search/x.py", "PREFERRED = ('gelu_spline', 'other')", name_faults),
        ("mpcc/show/x.py", "print('softmax_relu costs more')", name_faults),
        ("mpcc/training/x.py", "kept = options['floor']", option_faults),
        ("mpcc/search/x.py", "a = 'joined' in options", option_faults),
        ("mpcc/search/x.py", "a = {**options, 'joined': False}", option_faults),
        ("mpcc/verify/x.py", "a = options.get('gain')", option_faults),
        ("mpcc/training/x.py", "a = name in ('other', 'floor')", option_faults),
    ],
)
def test_a_breach_is_found(
    path: str, source: str, rule: Callable[[Path], Iterator[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    structure.planted(monkeypatch, {path: source})
    assert len(list(rule(structure.ROOT / path))) == 1


@pytest.mark.parametrize("source", ['"""As `gelu_spline` does."""', "a = 'gelu'", "def f():\n    'Like `softmax_relu`.'"])
def test_an_example_in_a_docstring_is_no_breach(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = structure.planted(monkeypatch, {"mpcc/search/x.py": source})
    assert list(name_faults(path)) == []
