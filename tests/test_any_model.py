"""Kinds of models that once failed between capture and the private run: each is optimised, and emulated like the float model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mpcc
from mpcc.errors import ShapeError
from mpcc.show.comparison import cells, lines, totals, unpriced


def optimised(model: nn.Module, *inputs: Tensor) -> mpcc.Optimized:
    return mpcc.optimize(model.eval(), inputs)


class Apply(nn.Module):
    """A function of the output of a linear layer of 16 x 16, and of further inputs."""

    def __init__(self, function: Callable[..., Any], head: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.function = nn.Linear(16, 16), nn.Linear(16, head), function

    def forward(self, x: Tensor, *more: Tensor) -> Any:
        return self.function(self, F.gelu(self.a(x)), *more)


VECTORS: dict[str, Callable[..., Any]] = {
    "a linear layer": lambda m, t: m.b(t.mean(1).squeeze()),
    "a row": lambda m, t: m.b(t[0, 2]),
    "its own product": lambda m, t: t[0, 0] @ t[0, 1],
    "matrices and vectors": lambda m, t: torch.cat([t[0] @ t[0, 1], t[0, 1] @ t[0].T]),
    "an own weight": lambda m, t: t[0] @ m.b.weight[0],
}


@pytest.mark.parametrize("name", VECTORS)
def test_products_of_vectors(name: str) -> None:
    model, images = Apply(VECTORS[name]).eval(), torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(1))
    found = optimised(model, images[:1]).executable().emulate(images)
    assert isinstance(found, Tensor)
    want = torch.stack([model(image[None]) for image in images])
    torch.testing.assert_close(found.reshape(want.shape), want, rtol=0, atol=2e-2)


def test_inputs_of_different_first_dimension() -> None:
    model = Apply(lambda m, t, text: t @ text.T).eval()
    images, text = torch.randn(3, 16), torch.randn(7, 16)
    executable = optimised(model, images[:1], text).executable()
    for count in (1, 3):
        found = executable.emulate(images[:count], text, check=False)
        torch.testing.assert_close(found, model(images[:count], text), rtol=0, atol=5e-2)
    texts = torch.randn(3, 7, 16)
    found = executable.emulate(images, texts.flatten(0, 1), check=False)
    want = torch.cat([model(image[None], text) for image, text in zip(images, texts, strict=True)])
    torch.testing.assert_close(found, want, rtol=0, atol=5e-2)
    with pytest.raises(ShapeError, match="same number of calls"):
        executable.emulate(images, texts[:2].flatten(0, 1))


def test_what_the_baseline_cannot_price_stops_nobody() -> None:
    model = Apply(lambda m, t: m.b(F.log_softmax(F.softplus(m.a(t)), -1)))
    made = optimised(model, torch.randn(1, 16))
    assert {kind for _, kind in made.baseline.unpriced} == {"log", "softplus"}
    assert not made.estimate.unpriced
    assert unpriced(made.baseline) == "crypten-stock has no price for softplus, log: its figures are lower bounds."
    assert any("not priced" in str(cells(line)) for line in lines(made.plan, made.baseline, made.estimate))
    assert totals(made.baseline, made.estimate)["rounds"][0].startswith("at least ")


@pytest.mark.parametrize("activation", [F.silu, torch.sigmoid])
def test_a_factor_before_an_activation_costs_nothing(activation: Callable[[Tensor], Tensor]) -> None:
    plain, scaled = (
        optimised(Apply(lambda m, t, c=c: m.b(activation(c * (t + m.a(t))))), torch.randn(1, 9, 16)).estimate
        for c in (1.0, 1.702)
    )
    assert int(scaled.rounds) <= int(plain.rounds) + 2


NO_DIMENSION = [lambda m, t: m.b(t).norm(), lambda m, t: t.std(), lambda m, t: torch.logaddexp(t.mean(), t[0, 0])]


@pytest.mark.parametrize("function", NO_DIMENSION)
def test_values_of_no_dimension(function: Callable[..., Any]) -> None:
    model, x = Apply(function), torch.randn(1, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():  # which is nothing to the search for inputs
        found = optimised(model, x).executable().emulate(x, check=False)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found.reshape(()), model(x), rtol=0, atol=2e-2)
