"""A model's cost as formulas in tokens, width, heads and layers: exact at home, right elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import sympy

from mpcc import registry
from mpcc.cost import LAN, Use, estimate_graph, symbolic, uses
from mpcc.errors import UsageError
from mpcc.frontend import capture
from tests.models.vit_lite import VisionTransformer, smooth_image


@cache
def model(**sizes: int) -> Any:
    vit = VisionTransformer(**{"image": 16, "width": 16, "depth": 2, "heads": 2, "hidden": 32, **sizes})
    return capture(vit.eval(), (smooth_image(sizes.get("image", 16)),))


@pytest.mark.parametrize("name", ["crypten-stock", "semi2k", "aby3", "cheetah"])
def test_formulas_are_exact_at_home_and_right_for_a_larger_model(name: str) -> None:
    protocol = registry.protocol(name)
    formulas = symbolic(uses(model()), protocol)
    assert formulas.sizes == {"n": 17, "d": 16, "h": 2, "m": 32, "L": 2}
    home = estimate_graph(model(), protocol, LAN)
    assert float(formulas.at(**formulas.sizes).bytes) == pytest.approx(float(home.bytes), rel=1e-9)

    larger = estimate_graph(model(image=32, width=32, depth=3, heads=4, hidden=64), protocol, LAN)
    predicted = formulas.at(n=65, d=32, h=4, m=64, L=3)
    embedding = 0.01  # the patch embedding keeps the numbers of the small model
    assert float(predicted.bytes) == pytest.approx(float(larger.bytes), rel=embedding)
    assert float(predicted.rounds) == pytest.approx(float(larger.rounds), rel=1e-9)


def test_the_formula_of_a_small_model_reads_as_one() -> None:
    formulas = symbolic(uses(model()), registry.protocol("semi2k"))
    layers, heads, tokens = sympy.symbols("L h n", integer=True, positive=True)
    assert (
        formulas.rounds
        == 4 * layers * heads + 8 * layers * sympy.ceiling(sympy.log(tokens) / sympy.log(2)) + 313 * layers + 38
    )
    rows = formulas.growth([17, 65, 197])
    assert [row[0] for row in rows] == [17, 65, 197]
    assert rows[0][2] < rows[1][2] < rows[2][2]


def test_a_model_without_tokens_or_with_ambiguous_sizes_has_no_formulas() -> None:
    protocol = registry.protocol("semi2k")
    relu = Use("a", "a", "relu", ((4, 8),), ("secret",), (4, 8), {}, "a")
    with pytest.raises(UsageError, match="no softmax over tokens"):
        symbolic([relu], protocol)
    with pytest.raises(UsageError, match="cannot be told apart"):
        symbolic(uses(model(width=34, hidden=17)), protocol)
