"""Masked attention: the mask is split off exactly, its keys are dropped in the secure form, in parts too."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc import registry
from mpcc.approximate import Choice, Plan, SiteStatistics
from mpcc.approximate.masks import mask_at
from mpcc.approximate.plan import Part, Split
from mpcc.calibration.ranges import stack_calls
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.errors import PlanError
from mpcc.frontend import capture
from mpcc.ir.nn import sites
from mpcc.ir.public_mask import bits_of, mask_of, part_of
from mpcc.pipeline import first_plan, prepare, schedule
from mpcc.program import Program
from mpcc.runtime.engine.emulate import Emulator
from mpcc.search import Sensitivity
from mpcc.search.default_plan import preferred
from mpcc.search.metrics import metric_of

CAUSAL = torch.ones(6, 6, dtype=torch.bool).tril()


class Attention(nn.Module):
    """Two heads; the mask and a position bias are added on five axes, as shifted windows do it, or filled in."""

    def __init__(self, seen: Tensor, low: float, bias: bool = False, fill: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.fill, self.low = nn.Linear(8, 24), fill, low
        added = torch.zeros(seen.shape).masked_fill(~seen, low) + (torch.randn(6, 6) * 0.3 if bias else 0.0)
        self.register_buffer("added", added)
        self.register_buffer("seen", seen)

    def forward(self, x: Tensor) -> Tensor:  # [1, 6, 8]
        q, k, v = self.qkv(x).reshape(1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1)
        if self.fill:
            scores = scores.masked_fill(~self.seen, self.low)
        else:
            scores = (scores.reshape(1, 1, 2, 6, 6) + self.added).reshape(1, 2, 6, 6)
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(1, 6, 8)


LOWS = {"a hundred": -100.0, "the least float": torch.finfo(torch.float32).min, "infinity": -math.inf}


@pytest.mark.parametrize("low", LOWS)
@pytest.mark.parametrize("how", ["added", "added to a bias", "filled in"])
def test_masked_keys_are_dropped(low: str, how: str) -> None:
    """The rewritten graph is equal to eager, the program in fixed point close to it, and the parties get the mask as text."""
    model = Attention(CAUSAL, LOWS[low], bias=how == "added to a bias", fill=how == "filled in").eval()
    x = torch.randn(32, 6, 8, generator=torch.Generator().manual_seed(1))
    prepared = prepare(model, (x[:1],), calibration=x)
    torch.testing.assert_close(prepared.graph(x[:1]), model(x[:1]), rtol=1e-5, atol=1e-6)
    (site,) = sites(prepared.graph).values()
    mask = mask_at(site)
    assert mask is not None and torch.equal(mask_of(mask.shape, mask.bits).reshape(6, 6), CAUSAL)
    program = schedule(prepared, first_plan(prepared, "bounded"))
    read = Program.from_json(program.to_json(), program.constants)
    for call in x[:4].split(1):
        torch.testing.assert_close(Emulator(read)(call)[0], model(call).detach(), rtol=0, atol=0.01)


def test_parts_have_their_part_of_the_mask() -> None:
    """Tokens of one softmax in two parts: the same function."""
    model, x = Attention(CAUSAL, -100.0).eval(), torch.randn(32, 6, 8)
    prepared = prepare(model, (x[:1],), calibration=x)
    ((site, choice),) = first_plan(prepared, "bounded").choices.items()
    assert isinstance(choice, Choice)
    split = Split(-2, (Part((0, 2, 5), choice), Part((1, 3, 4), choice)))
    program = schedule(prepared, Plan({site: split}))
    torch.testing.assert_close(Emulator(program)(x[:1])[0], model(x[:1]).detach(), rtol=0, atol=0.01)


def test_the_search_sees_masked_rows() -> None:
    """In float as well a choice drops what is not seen: else the search would judge it by logits of -10,000."""
    model, x = Attention(CAUSAL, -100.0).eval(), torch.randn(32, 6, 8, generator=torch.Generator().manual_seed(1))
    prepared = prepare(model, (x[:1],), calibration=x)
    columns, known = stack_calls(prepared.graph, x), registry.approximations()
    found = Sensitivity.of(prepared.graph, columns, known, metric_of(prepared.graph))
    joint = found.joint(first_plan(prepared, "bounded").choices)
    torch.testing.assert_close(joint[0], found.reference[0], rtol=0, atol=0.01)
    again = fit_sequentially(prepared.graph, x, _preferred, known)
    assert again.choices.keys() == sites(prepared.graph).keys()


def _preferred(seen: SiteStatistics) -> Choice:
    choice = preferred(seen, registry.approximations(), "bounded")
    assert choice is not None
    return choice


def test_no_silent_mask() -> None:
    """What has no masked form is refused by name, at a site whose rows are masked."""
    model, x = Attention(CAUSAL, -100.0).eval(), torch.randn(8, 6, 8)
    prepared = prepare(model, (x[:1],), calibration=x)
    (site,) = sites(prepared.graph)
    with pytest.raises(PlanError, match="softmax_max has no form for masked rows"):
        schedule(prepared, Plan({site: Choice("softmax_max", {})}))


def test_left_alone() -> None:
    """A bias that is only low stays a bias; a row that sees nothing stays as it is."""
    biased = mpcc.transform(Attention(torch.ones(6, 6, dtype=torch.bool), -100.0, bias=True).eval(), (torch.randn(1, 6, 8),))
    blind = mpcc.transform(Attention(CAUSAL & (torch.arange(6) > 0), -100.0).eval(), (torch.randn(1, 6, 8),))
    for graph in (biased, blind):
        assert all(mask_at(node) is None for node in sites(graph).values())


def test_text_of_a_mask() -> None:
    mask = torch.tensor([[1, 0, 1], [0, 1, 1]])
    assert bits_of(mask) == "ac" and torch.equal(mask_of((2, 3), "ac"), mask.bool())
    assert part_of((2, 3), "ac", 1, (2,)) == ((2, 1), bits_of(mask[:, 2:]))
    assert part_of((1, 3), bits_of(mask[:1]), 0, (4,)) == ((1, 3), bits_of(mask[:1]))


def test_again() -> None:
    """A rewritten graph that is captured and rewritten again still has its mask, and is still equal."""
    model, x = Attention(CAUSAL, -100.0, bias=True).eval(), torch.randn(1, 6, 8)
    again = mpcc.transform(capture(mpcc.transform(model, (x,)), (x,)))
    assert [mask_at(node) is not None for node in sites(again).values()] == [True]
    torch.testing.assert_close(again(x), model(x), rtol=1e-5, atol=1e-6)
