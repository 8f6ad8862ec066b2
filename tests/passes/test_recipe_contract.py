"""Every recipe keeps the contract that third parties call, and the contract can be broken."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
import torch

from mpcc import registry
from mpcc.approximate import Approximation
from mpcc.approximate.recipe import KEEP, Recipe, Use
from mpcc.errors import UsageError
from mpcc.ir import mpc
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
    broken = Approximation("gelu_broken", "gelu", "structural", "a test", lambda x: mpc.scale(x, float("inf")))
    known = {**registry.approximations(), broken.name: broken}
    monkeypatch.setattr(registry, "approximations", lambda: known)
    declared: dict[str, Any] = {"name": "own", "summary": "a test", "source": "a test"}
    with pytest.raises(AssertionError, match=message):
        check_recipe(Recipe(**{**declared, **changes}), block(), X)
