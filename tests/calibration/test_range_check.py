"""Inputs outside the range on which a plan holds are found, named and counted; inside nothing is said."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc import registry
from mpcc.approximate import Choice, Part, Plan, Split
from mpcc.calibration import named_like, outside, range_report
from mpcc.cli.search import ranges
from mpcc.errors import OutsideRange, PlanError
from mpcc.pipeline import first_plan, prepare
from mpcc.runtime.executable import Executable


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.fc(self.norm(x)), -1)


def rows(scale: float, count: int = 64) -> Tensor:
    return torch.randn((count, 5, 8), generator=torch.Generator().manual_seed(7)) * scale


@pytest.fixture(scope="module")
def executable() -> Executable:
    """By chains, which degrade gently: grids of a plan would be fitted again where inputs leave them."""
    torch.manual_seed(0)
    model, example = Block().eval(), (rows(1.0, 1),)
    plan = first_plan(prepare(model, example, calibration=rows(1.0)), "bounded")
    made = mpcc.compile(model, example, calibration=rows(1.0), plan=plan)
    assert isinstance(made, Executable)
    return made


def test_nothing_is_outside_where_the_plan_was_calibrated(executable: Executable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        executable.emulate(rows(1.0))
    assert executable.module is not None
    watched = range_report(executable.module, executable.plan, registry.approximations(), rows(1.0))
    assert {found.quantity for found in watched} >= {"variance", "centred"}


def test_emulation_warns_of_what_is_outside_and_says_how_much(executable: Executable) -> None:
    wide = torch.cat([rows(1.0, 18), rows(30.0, 6)])
    with pytest.warns(OutsideRange, match=r"norm\.layer_norm \(layer_norm_fitted\): variance: observed .* outside"):
        executable.emulate(wide)
    (found,) = [one for one in executable.outside(wide) if one.quantity == "variance"]
    assert found.calls == pytest.approx(6 / 24) and found.values == pytest.approx(6 / 24)
    assert found.seen_high > found.high


def test_optimising_by_a_plan_that_was_fitted_to_other_inputs_warns(executable: Executable) -> None:
    torch.manual_seed(0)
    model = Block().eval()
    with pytest.warns(OutsideRange, match="variance"):
        mpcc.optimize(model, (rows(1.0, 1),), calibration=rows(1.6), plan=executable.plan)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutsideRange)
        mpcc.optimize(model, (rows(1.0, 1),), calibration=rows(1.0), plan=executable.plan)


def test_an_approximation_that_holds_everywhere_is_not_watched(executable: Executable) -> None:
    assert executable.module is not None
    plan = Plan({site: Choice("softmax_scaling") for site in executable.plan.choices if "softmax" in site})
    assert outside(executable.module, plan, registry.approximations(), rows(100.0)) == []


def test_a_part_of_a_site_is_held_against_its_own_choice(executable: Executable) -> None:
    """Rows 0 and 3 have a domain that they leave, the others a choice that holds everywhere."""
    assert executable.module is not None
    (site,) = [name for name in executable.plan.choices if "softmax" in name]
    fitted = executable.plan.choices[site]
    assert isinstance(fitted, Choice)
    split = Split(1, (Part((0, 3), fitted), Part((1, 2, 4), Choice("softmax_scaling"))))
    found = range_report(executable.module, Plan({site: split}), registry.approximations(), rows(1.0))
    assert {one.site for one in found} == {f"{site} 0,3"}
    whole = range_report(executable.module, Plan({site: fitted}), registry.approximations(), rows(1.0))
    assert all(part.seen_high <= one.seen_high for part, one in zip(found, whole, strict=True))


def test_a_plan_of_another_model_is_refused(executable: Executable) -> None:
    assert executable.module is not None
    with pytest.raises(PlanError, match="do not match those of the model"):
        named_like(executable.module, Plan({"blocks.0.gelu": Choice("gelu_relu")}))


def test_what_a_structural_choice_changes_is_seen_by_what_comes_after() -> None:
    """A GELU that is the identity widens what the norm behind it sees; a plan fitted to that holds there, another does not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.GELU(), nn.Linear(8, 8), nn.LayerNorm(8)).eval()
    made = mpcc.optimize(model, (rows(1.0, 1),), calibration=rows(1.0))
    gelu, norm = made.plan.choices
    plan = Plan({gelu: Choice("gelu_identity"), norm: made.plan.choices[norm]})
    (exact,), (found,) = ([one for one in range_report(made.module, p, registry.approximations(), rows(1.0)) if one.site == norm]
                          for p in (made.plan, plan))  # fmt: skip
    assert found.seen_high > exact.seen_high
    x = model[1](rows(1.0)).detach()
    assert found.seen_high == pytest.approx(float(x.var(-1, unbiased=False).max()), rel=1e-4)


def test_what_optimise_made_says_where_each_choice_holds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = mpcc.optimize(Block().eval(), (rows(1.0, 1),), calibration=rows(1.0))
    assert {one.site for one in made.ranges} == set(made.plan.choices)
    assert all(one.values == 0 and one.low <= one.seen_low <= one.seen_high <= one.high for one in made.ranges)
    assert ranges(made.ranges).row_count == len(made.ranges)
    report = (made.save(tmp_path / "b.mpcc") / "report.html").read_text(encoding="utf-8")
    assert "Valid ranges" in report and all(one.holds in report and one.seen in report for one in made.ranges)
