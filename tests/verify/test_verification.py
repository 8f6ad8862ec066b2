"""Where a plan's error enters: each site's own error beside what it declares, and what fixed point adds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc.approximate import Choice, Plan
from mpcc.runtime.executable import Executable
from mpcc.verify.verification import Verification


class Block(nn.Module):
    """LayerNorm, attention of one head, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.qk = nn.Linear(8, 16)
        self.fc = nn.Linear(8, 8)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k = self.qk(y).chunk(2, -1)
        return self.act(self.fc((q @ k.transpose(-2, -1)).softmax(-1) @ y))


IMAGES = torch.randn((24, 5, 8), generator=torch.Generator().manual_seed(3))


def compiled(plan: Plan | None = None) -> Executable:
    torch.manual_seed(0)
    made = mpcc.compile(Block().eval(), (IMAGES[:1],), calibration=IMAGES, plan=plan)
    assert isinstance(made, Executable)
    return made


@pytest.fixture(scope="module")
def executable() -> Executable:
    return compiled()


def test_each_site_has_a_row_with_its_own_error_and_that_of_fixed_point(executable: Executable) -> None:
    found = Verification(executable, [(image[None],) for image in IMAGES[:6]]).site_errors()
    assert [one.site for one in found] == list(executable.plan.choices)
    for one in found:
        assert one.declared is not None and 0 < one.own <= one.declared
        assert one.size > 0 and one.fixed is not None and 0 < one.fixed < 0.01, one


def test_a_row_says_where_the_factor_of_a_site_was_merged(executable: Executable) -> None:
    """A norm is multiplied by its weight first, and a softmax divides behind `fc`: there they are measured, not in pieces."""
    found = {one.site: one.merged for one in Verification(executable, [(image[None],) for image in IMAGES[:2]]).site_errors()}
    assert list(found.values()) == ["norm", "fc", ""]


def test_what_an_identity_leaves_nothing_of_is_said(executable: Executable) -> None:
    (gelu,) = [site for site in executable.plan.choices if "gelu" in site]
    without = compiled(Plan({**executable.plan.choices, gelu: Choice("gelu_identity")}))
    found = {one.site: one for one in Verification(without, [(image[None],) for image in IMAGES[:2]]).site_errors()}
    assert found[gelu].fixed is None and "not measured" in found[gelu].merged


def test_a_bad_choice_is_where_the_error_is_shown(executable: Executable) -> None:
    """A ReLU for the GELU: its row says so, the others stay small."""
    (gelu,) = [site for site in executable.plan.choices if "gelu" in site]
    worse = compiled(Plan({**executable.plan.choices, gelu: Choice("gelu_relu")}))
    found = {one.site: one for one in Verification(worse, [(image[None],) for image in IMAGES[:6]]).site_errors()}
    assert found[gelu].own > 0.05
    assert all(one.own < 0.05 for site, one in found.items() if site != gelu)


def test_the_stages_follow_one_another(executable: Executable) -> None:
    verification = Verification(executable, [(image[None],) for image in IMAGES[:6]])
    plain, approximated = torch.cat(verification.plain()), torch.cat(verification.approximated())
    fixed = executable.emulate(IMAGES[:6])
    assert isinstance(fixed, Tensor)
    assert 0 < float((plain - approximated).abs().max()) < 0.05
    assert 0 < float((fixed - approximated).abs().max()) < 0.01
    assert verification.outside() == []


def test_a_bundle_is_verified_by_the_model_in_it(executable: Executable, tmp_path: Path) -> None:
    """Its sites have the plan's names, whatever the exchange format made of the layers'."""
    stored = mpcc.load(executable.save(tmp_path / "block.mpcc"))
    assert stored.reference is not None
    found = Verification(stored, [(image[None],) for image in IMAGES[:2]]).site_errors()
    assert [one.site for one in found] == list(executable.plan.choices)
    assert all(one.fixed is not None and one.fixed < 0.01 for one in found)
    made = Verification(executable, [(image[None],) for image in IMAGES[:2]]).site_errors()
    assert [one.merged for one in found] == [one.merged for one in made]
    assert [one.fixed for one in found] == pytest.approx([one.fixed for one in made], rel=0.1)
