"""The plug-ins that CONTRIBUTING.md shows are complete: each runs as it stands, alone in a file."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mpcc import registry
from mpcc.approximate import Approximation
from mpcc.approximate.recipe import Recipe
from mpcc.cost import Protocol
from mpcc.testing.recipes import check_recipe
from tests.models.uneven_heads import DIM, TOKENS, Block

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def written(index: int) -> ModuleType:
    module = ModuleType(f"snippet_{index}")
    exec(compile(SNIPPETS[index], module.__name__, "exec", dont_inherit=True), vars(module))
    return module


def test_the_approximation_is_found_and_computes_what_it_says() -> None:
    (approximation,) = registry.collect([written(0)], Approximation, "approximation").values()
    x = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(approximation.function(x, approximate="none"), x * x / 8 + x / 4 + 0.5)


def test_the_protocol_is_found_and_prices_a_product() -> None:
    (protocol,) = registry.collect([written(1)], Protocol, "protocol").values()
    price = protocol.price("mul", [(3, 5), (3, 5)])
    assert (price.online.rounds, price.online.bytes) == (1, 2 * 8 * 30)


def test_the_recipe_is_found_and_keeps_the_contract() -> None:
    (recipe,) = registry.collect([written(2)], Recipe, "recipe").values()
    check_recipe(recipe, Block().eval(), (torch.randn(1, TOKENS, DIM),))


@pytest.mark.parametrize("index", range(len(SNIPPETS)))
def test_it_begins_with_what_it_is_for(index: int) -> None:
    assert SNIPPETS[index].startswith('"""')
