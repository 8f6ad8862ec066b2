"""Every recipe keeps the contract that third parties call, and the contract can be broken."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import mpcc
from mpcc import registry
from mpcc.approximate import Approximation
from mpcc.approximate.recipe import KEEP, Recipe, Use
from mpcc.errors import UsageError
from mpcc.ir import mpc as primitives
from mpcc.ir.nn import SITES
from mpcc.testing.recipes import check_recipe
from tests.models.uneven_heads import DIM, TOKENS, Block

X = (torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(0)),)


def block() -> Block:
    torch.manual_seed(0)
    return Block().eval()


@pytest.mark.parametrize("name", registry.recipes())
def test_every_recipe_keeps_the_contract(name: str) -> None:
    check_recipe(registry.recipe(name), block(), X)


def test_recipes_are_found_by_name_and_by_alias() -> None:
    made = ModuleType("theirs")
    vars(made)["THEIRS"] = own = Recipe("theirs", "nothing", "a test")
    assert registry.collect([made], Recipe, "recipe") == {"theirs": own}
    assert registry.recipe("softmax") is registry.recipe("stock")
    with pytest.raises(UsageError, match="no recipe called 'stok'"):
        registry.recipe("stok")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": ""}, "no source"),
        ({"summary": ""}, "summary is empty"),
        ({"name": "a:b"}, "colon"),
        ({"granularity": {"relu": "token"}}, "granularities for relu"),
        ({"operators": {"silu": (Use("silu_polynomial"),)}}, "the model has no silu"),
        ({"operators": {"gelu": (KEEP, Use("gelu_broken"))}, "choice": "budget"}, "infinite or NaN"),
    ],
)
def test_a_broken_recipe_is_found(changes: Mapping[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Approximation("gelu_broken", "gelu", "structural", "a test", lambda x: primitives.scale(x, float("inf")))
    known = {**registry.approximations(), broken.name: broken}
    monkeypatch.setattr(registry, "approximations", lambda: known)
    declared: dict[str, Any] = {"name": "own", "summary": "a test", "source": "a test"}
    with pytest.raises(AssertionError, match=message):
        check_recipe(Recipe(**{**declared, **changes}), block(), X)


def named(source: str) -> set[str]:
    """The recipes and approximations that the text of a module names in strings, as a whole word of one."""
    recipes = registry.recipes().values()
    plugins = {*registry.approximations(), *registry.recipes(), *(alias for one in recipes for alias in one.aliases)} - set(SITES)
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    words = [word for text in constants if isinstance(text, str) for word in text.split()]
    return plugins & {word.strip("`'\".,;") for word in words} - {"mpcc"}


def test_nothing_that_uses_recipes_names_one() -> None:
    root = Path(mpcc.__file__).parent
    files = [*(root / "training").glob("*.py"), *(root / "search" / name for name in ("recipes.py", "scores.py"))]
    assert len(files) > 10 and not {name for path in files for name in named(path.read_text(encoding="utf-8"))}
    assert named('KNOWN = ("scaling",)') == {"scaling"} and named("x = 1  # scaling") == set()
