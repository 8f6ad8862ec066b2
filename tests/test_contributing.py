"""The snippets of CONTRIBUTING.md, followed to the letter: each plug-in stands alone in a file and keeps its contract."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mpcc import registry
from mpcc.approximate import Approximation
from mpcc.approximate.recipe import Recipe
from mpcc.rewrite import Pass
from mpcc.testing.recipes import check_recipe
from tests.models.uneven_heads import DIM, TOKENS, Block

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
KINDS = (Approximation, Pass, Recipe)


def run(text: str, name: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(text, name, "exec", dont_inherit=True), vars(module))
    return module


PLUGINS = [text for text in SNIPPETS if "def test_" not in text]
TESTS = [text for text in SNIPPETS if "def test_" in text]


@pytest.fixture
def my_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plug-ins as modules of a package, named as the tests of CONTRIBUTING.md import them."""
    monkeypatch.setitem(sys.modules, "my_package", ModuleType("my_package"))
    for text in PLUGINS:
        module = run(text, "plugin")
        (plugin,) = (value for value in vars(module).values() if is_dataclass(value) and hasattr(value, "source"))
        monkeypatch.setitem(sys.modules, f"my_package.{plugin.name}", module)
    yield


@pytest.mark.parametrize("index", range(len(TESTS)))
def test_a_plugin_keeps_its_contract(index: int, my_package: None) -> None:
    tests = {name: test for name, test in vars(run(TESTS[index], "its_test")).items() if name.startswith("test_")}
    assert tests
    for test in tests.values():
        test()


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_one_of_each_kind(kind: type) -> None:
    found = registry.collect([run(text, f"snippet_{index}") for index, text in enumerate(PLUGINS)], kind, "plug-in")
    assert len(found) == 1


def test_the_recipe_is_found_and_keeps_the_contract() -> None:
    modules = [run(text, f"snippet_{index}") for index, text in enumerate(PLUGINS)]
    (recipe,) = registry.collect(modules, Recipe, "recipe").values()
    check_recipe(recipe, Block().eval(), (torch.randn(1, TOKENS, DIM),))


@pytest.mark.parametrize("index", range(len(SNIPPETS)))
def test_it_begins_with_what_it_is_for(index: int) -> None:
    assert SNIPPETS[index].startswith('"""')
