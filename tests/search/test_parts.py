"""Parts of a site: which are cut, what one alone does, what candidates cost in them, and that a search takes them."""

from __future__ import annotations

import pytest
import torch

from mpcc import pipeline, registry
from mpcc.approximate import Choice, Split
from mpcc.cost import Work
from mpcc.ir.nn import sites
from mpcc.search import Limit, Weights, solve
from mpcc.search.candidates import Candidate, Candidates
from mpcc.search.parts import WHOLE, Partly, Parts, cut, slots_of, with_shares
from mpcc.search.problem import Problem
from mpcc.search.search import Search
from mpcc.search.solver import ABSOLUTE_GAP
from mpcc.search.target import Objective, Target
from tests.models.tuning import Vit

GELU = "blocks.0.act.gelu"


@pytest.fixture(scope="module")
def search() -> Search:
    torch.manual_seed(0)
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    prepared = pipeline.prepare(Vit().eval(), (images[:1],), calibration=images)
    return Search.of(pipeline.task_of(prepared, Target(network="2ms,200kB/s"), Objective("structural", effort=0.5)))


def test_heads_and_tokens_are_slots_of_their_site(search: Search) -> None:
    softmax = next(site for site in search.trials.space.candidates if site.endswith("softmax"))
    for site in (softmax, GELU):
        parts = search.trials.measurements.parts[site]
        assert sorted(place for group in parts.groups for place in group) == list(range(parts.size))
        assert 1 < len(parts.groups) <= 4
        assert sum(slot.site == site for slot in search.problem.slots) == len(search.trials.space.parts[site].groups)
        for candidate in search.trials.space.candidates[site].kept:
            assert sum(candidate.shares) == pytest.approx(1.0)


def test_alike_in_all_parts_is_the_whole_site(search: Search) -> None:
    """Work and loss of the site's candidates are those of its slots together."""
    for site, slot in zip(search.trials.space.candidates, search.problem.whole.slots, strict=True):
        candidates = search.trials.space.candidates[site].kept
        assert [o.loss for o in slot.options] == pytest.approx([m.loss for m in candidates])
        assert [o.work.bytes for o in slot.options] == pytest.approx([float(m.work.bytes) for m in candidates])
        assert [o.work.local_seconds for o in slot.options] == pytest.approx([float(m.work.local_seconds) for m in candidates])


def test_a_split_is_no_loses_more_than_whole_sites_within_the_same_bytes(search: Search) -> None:
    """Up to what the solver takes for equal, of the largest loss of an option."""
    problem, least = search.problem, Weights(loss=1.0)
    equal = 2 * ABSOLUTE_GAP * max(option.loss for slot in problem.whole.slots for option in slot.options)
    sizes = [sum(float(slot.options[pick].work.bytes) for slot in problem.whole.slots) for pick in (0,)]
    for part in (1.1, 1.3, 1.6):
        limit = Limit(Weights(bytes=1.0), float(problem.fixed.bytes) + part * sizes[0])
        whole, parts = solve(problem.whole, least, [limit]), solve(problem, least, [limit])
        if whole is not None:
            assert parts is not None and problem.loss(parts) <= problem.whole.loss(whole) + equal


def test_picks_of_parts_become_a_split(search: Search) -> None:
    picks = list(search.problem.in_parts([0] * len(search.trials.space.candidates)))
    first = next(place for place, slot in enumerate(search.problem.slots) if slot.site == GELU)
    picks[first] = len(search.trials.space.candidates[GELU].kept) - 1
    entry = search.trials.plan(tuple(picks)).choices[GELU]
    assert isinstance(entry, Split) and len(entry.parts) == 2
    assert search.trials.estimate(tuple(picks)).bytes > 0


def test_a_part_alone_leaves_the_rest_as_it_was(search: Search) -> None:
    node = sites(search.trials.task.graph)[GELU]
    x = torch.randn(node.args[0].meta["val"].shape)  # type: ignore[union-attr]
    dim = x.dim() - 2
    found = Partly(Choice("gelu_identity"), dim, (1,), x.shape[dim]).function(node, registry.approximations())(x)
    expected = torch.nn.functional.gelu(x)
    expected.select(dim, 1).copy_(x.select(dim, 1))
    assert torch.allclose(found, expected)


def test_nothing_is_cut_where_no_member_is_structural(search: Search) -> None:
    entry = search.trials.space.candidates[GELU]
    bounded = [m for m in entry.kept if registry.approximation(m.choice.approximation).level != "structural"]
    node = sites(search.trials.task.graph)[GELU]
    few = Candidates(GELU, tuple(bounded))
    assert cut(node, few, registry.approximations(), None) == WHOLE  # type: ignore[arg-type]


def test_shares_are_scaled_to_the_loss_of_the_whole() -> None:
    candidates = (Candidate(Choice("softmax_scaling"), Work(), 0.5, 2.0), Candidate(Choice("softmax_max"), Work(), 0.1, 1.0))
    parts = Parts(1, ((0,), (1, 2, 3)))
    scaling, exact = with_shares(Candidates("s", candidates), parts, [0.1, 0.3], registry.approximations()).kept
    assert scaling.shares == pytest.approx((0.25, 0.75)) and exact.shares == pytest.approx((0.25, 0.75))
    assert with_shares(Candidates("s", candidates), parts, [0.0, 0.0], registry.approximations()).kept[0].shares == parts.shares


@pytest.mark.parametrize("parallel", [True, False])
def test_what_knows_no_size_is_paid_once_a_form(parallel: bool) -> None:
    class Fake:
        def __init__(self) -> None:
            self.parallel = parallel

        def once(self, site: str, choice: Choice) -> float:
            return 0.2

    shares = (0.5, 0.5)
    candidates = (
        Candidate(Choice("a"), Work(3, 100, 1.0), 0.5, 2.0, shares=shares),
        Candidate(Choice("b"), Work(7, 300, 2.0), 0.1, 0.0, shares=shares),
    )
    slots = slots_of(Candidates("s", candidates), Parts(1, ((0,), (1,))), Fake())  # type: ignore[arg-type]
    problem = Problem(slots, parallel=False) if not parallel else Problem(slots)
    mixed = problem.work((0, 1))
    assert mixed.bytes == pytest.approx(200) and mixed.local_seconds == pytest.approx(0.4 + 0.9 + 0.4)
    assert problem.work((0, 0)).local_seconds == pytest.approx(1.0)
    if not parallel:
        assert mixed.rounds == 10 and problem.work((1, 1)).rounds == 7
