"""Grids of a given plan: fitted again where values leave them, given up where none holds, and it is said."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc import registry
from mpcc.approximate import Choice, Plan
from mpcc.errors import RangeError, Refitted
from mpcc.pipeline import Prepared, prepare
from mpcc.search.within_grids import within_grids

GELU, NORM = "act.gelu", "norm.layer_norm"
LARGE = Choice("gelu_quad", {"coefficients": [0.0, 0.0, 5.0]})


class Small(nn.Module):
    """[1, 4, 8] -> [1, 3]: a GELU, a norm behind it, and attention of one head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.norm = nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8)
        self.q, self.k, self.attn, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x + self.act(self.first(x)))
        return self.head((self.attn(self.q(y) @ self.k(x).transpose(-1, -2)) @ y).mean(1))


@cache
def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


@cache
def rows(scale: float = 1.0) -> Tensor:
    return scale * torch.randn((64, 4, 8), generator=torch.Generator().manual_seed(0))


@cache
def prepared(scale: float = 1.0) -> Prepared:
    return prepare(small(), (rows()[:1],), calibration=rows(scale))


@cache
def gated() -> Plan:
    """Gates wherever there is one."""
    known, found = registry.approximations(), {}
    for site, seen in prepared().statistics.items():
        gate = known[f"{seen.site.operator}_grid"]
        found[site] = Choice(gate.name, gate.candidates(seen)[0])
    return Plan(found, {"made_by": "a test"})


def held(plan: Plan, scale: float = 1.0) -> tuple[Plan, list[str]]:
    one = prepared(scale)
    found, changes = within_grids(one.graph, plan, one.inputs, registry.approximations())
    return found, [str(change) for change in changes]


def test_a_plan_of_these_inputs_is_taken_as_it_is() -> None:
    found, said = held(gated())
    assert found is gated() and said == []


def test_grids_behind_an_edited_choice_are_fitted_again() -> None:
    """A parabola that is far too large in place of the GELU: the norm behind it sees other variances."""
    edited = replace(gated(), choices={**gated().choices, GELU: LARGE})
    found, said = held(edited)
    changed = {site for site in found.choices if found.choices[site] != edited.choices[site]}
    assert NORM in changed and found.choices[GELU] == edited.choices[GELU] and found.notes == edited.notes
    assert len(said) == len(changed) and all("beyond its grid over" in line for line in said)
    again, nothing = held(found)
    assert again is found and nothing == []


def test_what_no_grid_holds_gives_way_to_what_has_none() -> None:
    found, said = held(gated(), scale=1e3)
    assert any("stands there instead" in line for line in said)
    known = registry.approximations()
    assert not all(known[one.approximation].gate for entry in found.choices.values() for one in entry.choices)


def test_where_nothing_holds_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcc.search.within_grids.preferred", lambda *_: None)
    with pytest.raises(RangeError, match="nothing else keeps the function"):
        held(gated(), scale=1e3)


def test_an_edited_plan_through_optimize_and_compile() -> None:
    """No NaN, and a warning for each change; the plan that is made holds."""
    edited = replace(gated(), choices={**gated().choices, GELU: LARGE})
    model, example = small(), (rows()[:1],)
    with pytest.warns(Refitted, match="beyond its grid"):
        made = mpcc.optimize(model, example, calibration=rows(), plan=edited, compensate=False)
    outputs = made.executable().emulate(rows()[:4])
    assert isinstance(outputs, Tensor) and bool(torch.isfinite(outputs).all())
    with warnings.catch_warnings():
        warnings.simplefilter("error", Refitted)
        compiled = mpcc.compile(model, example, calibration=rows(), plan=made.plan)
    assert compiled.program.cost == made.program.cost  # type: ignore[union-attr]


def test_without_a_plan_compile_and_optimize_make_one_program() -> None:
    model, example = small(), (rows()[:1],)
    for network in ("lan", "wan"):
        made = mpcc.optimize(model, example, calibration=rows(), network=network)
        compiled = mpcc.compile(model, example, calibration=rows(), network=network)
        assert isinstance(compiled, mpcc.Executable)
        assert compiled.program.cost == made.program.cost and compiled.plan.choices == made.plan.choices
