"""Where larger inputs give values that are no numbers, the choice that is to blame is found, and it alone is barred."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mpcc import pipeline, registry
from mpcc.approximate import Choice
from mpcc.cost import Work
from mpcc.search.bars import banned
from mpcc.search.problem import Option, Problem, Slot
from mpcc.search.runaway import Runaway, causes

NORM, SOFTMAX, GELU = "norm.layer_norm", "softmax", "gelu"


class Layer(nn.Module):
    """A norm, logits, a softmax, an activation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)
        self.fc.weight.data *= 3

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(torch.softmax(self.fc(self.norm(x)), -1))


@pytest.fixture(scope="module")
def prepared() -> pipeline.Prepared:
    inputs = torch.randn((16, 1, 5, 8), generator=torch.Generator().manual_seed(1))
    return pipeline.prepare(Layer().eval(), (inputs[0],), calibration=inputs)


def choices(prepared: pipeline.Prepared, **other: str) -> dict[str, Choice]:
    """The accurate plan's, with other approximations at some sites."""
    found = {site: entry for site, entry in pipeline.first_plan(prepared, "bounded").choices.items() if isinstance(entry, Choice)}
    named = {"norm": NORM, "softmax": SOFTMAX, "gelu": GELU}
    for key, name in other.items():
        (candidate, *_) = registry.approximations()[name].candidates(prepared.statistics[named[key]])
        found[named[key]] = Choice(name, dict(candidate))
    return found


def blamed(prepared: pipeline.Prepared, scale: float, **other: str) -> list[tuple[str, ...]]:
    inputs = torch.randn((4, 1, 5, 8), generator=torch.Generator().manual_seed(2)) * scale
    return causes(prepared.graph, choices(prepared, **other), registry.approximations(), inputs)


def test_nothing_is_to_blame_inside_the_range(prepared: pipeline.Prepared) -> None:
    assert blamed(prepared, 1.0, softmax="softmax_mean_shift") == []
    assert blamed(prepared, 1.0, norm="layer_norm_static", softmax="softmax_scaling") == []


def test_a_norm_that_passes_the_scale_on_comes_before_what_it_carries_off(prepared: pipeline.Prepared) -> None:
    assert blamed(prepared, 4.0, norm="layer_norm_static", softmax="softmax_mean_shift") == [(NORM, SOFTMAX)]


def test_a_site_is_lost_by_itself_where_the_norm_before_it_is_exact(prepared: pipeline.Prepared) -> None:
    plan = choices(prepared, softmax="softmax_mean_shift")
    narrow = Choice("softmax_mean_shift", {**plan[SOFTMAX].options, "start": [1.0, 40.0, 900.0]})  # no exponential
    inputs = torch.randn((4, 1, 5, 8), generator=torch.Generator().manual_seed(2))
    assert causes(prepared.graph, {**plan, SOFTMAX: narrow}, registry.approximations(), inputs) == [(SOFTMAX,)]


def problem() -> Problem:
    """Three sites of two options; at the norm one is left."""

    def slot(site: str, *usable: bool) -> Slot:
        return Slot(site, tuple(Option(Work(), float(2 - i), usable=one) for i, one in enumerate(usable)))

    return Problem((slot(NORM, True, False), slot(SOFTMAX, True, True), slot(GELU, True, True)), ())


def usable(found: Problem) -> list[list[bool]]:
    return [[option.usable for option in slot.options] for slot in found.slots]


def test_the_first_of_a_cause_that_has_a_choice_left_is_barred() -> None:
    error = Runaway("no numbers", [(NORM, SOFTMAX)])
    assert usable(banned(problem(), (0, 0, 0), error)) == [[True, False], [False, True], [True, True]]
    both = Runaway("no numbers", [(SOFTMAX,), (GELU,)])
    assert usable(banned(problem(), (0, 1, 0), both)) == [[True, False], [True, False], [False, True]]


def test_without_a_known_cause_the_choice_of_most_loss_is_barred() -> None:
    assert usable(banned(problem(), (0, 1, 0), Runaway("no numbers", []))) == [[True, False], [True, True], [False, True]]
    assert usable(banned(problem(), (0, 1, 0), Runaway("no numbers", [(NORM,)]))) == [[True, False], [True, True], [False, True]]
