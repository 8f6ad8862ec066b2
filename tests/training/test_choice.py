"""Latency of a mixture, and the two ways from scores to picks."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mpcc.approximate.recipe import Use
from mpcc.ir.nn import sites
from mpcc.training import Candidate, Gate, Prices, by_milp, by_ratio, gate
from mpcc.training.latency import SitePrice
from tests.models.tuning import graph

NAMES = ("exact", "softmax_relu", "softmax_scaling")


def gates() -> list[Gate]:
    found = [node for site, node in sites(graph()).items() if site.endswith("softmax")]
    return [gate(node, "head", [Candidate(Use(name)) for name in NAMES]) for node in found]


def prices(chosen: list[Gate]) -> Prices:
    return Prices(3.0, 0.02, {g.site: SitePrice((0.0, -4.0, -9.0), (0.0, -0.3, -0.5)) for g in chosen})


def weights(chosen: list[Gate], seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {g.site: torch.randn(g.positions, len(NAMES)).softmax(1) for g in chosen}


def test_a_gate_has_a_position_for_each_head_or_token() -> None:
    node = next(node for site, node in sites(graph()).items() if site.endswith("softmax"))
    assert [(g.dim, g.positions) for g in (gate(node, kind, []) for kind in ("head", "token", "layer"))] == [
        (1, 2), (2, 4), (None, 1),
    ]  # fmt: skip


def test_certain_weights_cost_what_the_picks_cost() -> None:
    chosen = gates()
    price = prices(chosen)
    for k in range(3):
        sure = {g.site: torch.nn.functional.one_hot(torch.tensor([k, k]), 3).float() for g in chosen}
        picks = {g.site: (k, k) for g in chosen}
        assert float(price.predicted(sure)) == pytest.approx(price.picked(picks), abs=1e-6)


def test_rounds_are_those_of_the_slowest_head_and_bytes_add_up() -> None:
    chosen = gates()[:1]
    price = prices(chosen)
    assert price.picked({chosen[0].site: (2, 0)}) == pytest.approx(3.0 + 0.0 - 0.25)
    mixed = {chosen[0].site: torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])}
    assert float(price.predicted(mixed)) == pytest.approx(2.75, abs=1e-6)


def test_the_prediction_has_a_gradient_towards_the_cheap() -> None:
    chosen = gates()
    scores = {g.site: torch.zeros(2, 3, requires_grad=True) for g in chosen}
    prices(chosen).predicted({s: v.softmax(1) for s, v in scores.items()}).backward()  # type: ignore[no-untyped-call]
    for value in scores.values():
        assert value.grad is not None
        assert (value.grad[:, 0] > 0).all() and (value.grad[:, 2] < 0).all()


@pytest.mark.parametrize("limit", [3.0, 2.8, 2.5, 1.9, 1.7])
def test_the_integer_program_finds_the_best_of_all_combinations(limit: float) -> None:
    chosen = gates()
    price, w = prices(chosen), weights(chosen)

    def score(picks: dict[str, tuple[int, ...]]) -> float:
        return sum(float(w[s][p, k].log()) for s, row in picks.items() for p, k in enumerate(row))

    every = [
        {chosen[0].site: tuple(ks[:2]), chosen[1].site: tuple(ks[2:])} for ks in itertools.product(range(3), repeat=4)
    ]
    best = max((picks for picks in every if price.picked(picks) <= limit + 1e-9), key=score)
    found = by_milp(chosen, w, price, limit)
    assert found is not None
    assert price.picked(found) <= limit + 1e-6
    assert score(found) == pytest.approx(score(best))


def test_the_integer_program_says_when_nothing_fits() -> None:
    chosen = gates()
    assert by_milp(chosen, weights(chosen), prices(chosen), 0.5) is None


def test_the_ratio_is_of_the_whole_model_not_of_a_layer() -> None:
    chosen = gates()
    w = {chosen[0].site: torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]]), chosen[1].site: torch.tensor([[0.1, 0.9, 0.0]] * 2)}
    assert by_ratio(chosen, w, 0.5) == {chosen[0].site: (0, 0), chosen[1].site: (1, 1)}
    assert by_ratio(chosen, w, 0.0) == {g.site: (1, 1) for g in chosen}
    assert by_ratio(chosen, w, 1.0) == {g.site: (0, 0) for g in chosen}
