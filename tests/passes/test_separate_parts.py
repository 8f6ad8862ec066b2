"""Split sites in a small Vision Transformer: every part saves what it would save as a whole layer, no round is added."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, fx

from mpcc import registry
from mpcc.approximate import Choice, Part, Plan, Split
from mpcc.approximate.expand import expand
from mpcc.ir import mpc, online
from mpcc.ir.info import info_of
from mpcc.pipeline import Prepared, first_plan, prepare, schedule
from mpcc.program import Program
from mpcc.rewrite.edit import Refusal
from mpcc.runtime.engine.emulate import Emulator
from tests.models.graphs import calls, shapes
from tests.models.pass_models import Block, ViT

SOFTMAX, GELU = "blocks.0.attn.softmax", "blocks.0.mlp.1.gelu"
TOKENS = 9


@dataclass(frozen=True)
class Case:
    """The model ready for choices, its exact plan, and candidates for the two sites."""

    prepared: Prepared
    plan: Plan
    relu: Choice
    scaling: Choice = Choice("softmax_scaling")
    same: Choice = Choice("gelu_identity")

    def with_(self, **sites: Choice | Split) -> Plan:
        """The exact plan with other choices at `softmax` and `gelu`."""
        names = {"softmax": SOFTMAX, "gelu": GELU}
        return Plan({**self.plan.choices, **{names[key]: entry for key, entry in sites.items()}})

    @property
    def heads(self) -> Split:
        return Split(1, (Part((1,), self.relu), Part((0,), self.scaling)))

    def tokens(self, *same: int) -> Split:
        """The activation left out for the tokens `same`."""
        rest = tuple(sorted(set(range(TOKENS)) - set(same)))
        exact = self.plan.choices[GELU]
        assert isinstance(exact, Choice)
        return Split(1, (Part(rest, exact), Part(same, self.same)))


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(0)
    model = ViT("sequence", Block).eval()
    prepared = prepare(model, (torch.randn(1, 2, 3, 3),), calibration=torch.randn(16, 2, 3, 3))
    relu = registry.approximations()["softmax_relu"].candidates(prepared.statistics[SOFTMAX])[0]
    return Case(prepared, first_plan(prepared, "bounded"), Choice("softmax_relu", relu))


def lowered(case: Case, plan: Plan, *passes: str, refusals: list[Refusal] | None = None) -> fx.GraphModule:
    """The expanded graph after passes, which compute the same in float64; why they did not fire goes to `refusals`."""
    graph = copy.deepcopy(expand(case.prepared.graph, plan, registry.approximations()))
    plain = copy.deepcopy(graph).double()
    for name in passes:
        result = registry.pass_(name)(graph)
        if refusals is not None:
            refusals += result.refusals
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(graph.double()(x), plain(x), rtol=1e-6, atol=1e-6)
    return graph


def opened(program: Program) -> int:
    """Values opened to both parties online."""
    return sum(n.meta["val"].numel() for n in program.online.graph.nodes if n.target is online.open_ and _is_online(n))


def _is_online(node: fx.Node) -> bool:
    return info_of(node).phase == "online"


PASSES = ("separate_parts", "fuse_linear_mpc", "divide_after_matmul", "reassociate_attention")


def test_scaling_heads_never_compute_their_scores(case: Case) -> None:
    graph = lowered(case, case.with_(softmax=case.heads), *PASSES)
    block = [n for n in calls(graph, mpc.matmul) if "attn" in n.meta["layer"] and "blocks.0" in n.meta["layer"]]
    sizes = [tuple(n.meta["val"].shape)[1:] for n in block]
    assert sorted(sizes) == [(1, 4, 4), (1, 9, 4), (1, 9, 4), (1, 9, 9)]  # k^T v and q (k^T v); scores and P v


def test_scaling_tokens_share_keys_and_values(case: Case) -> None:
    split = Split(-2, (Part((0, 2), case.relu), Part((1, *range(3, 9)), case.scaling)))
    graph = lowered(case, case.with_(softmax=split), *PASSES)
    found = zip(calls(graph, mpc.matmul), shapes(graph, mpc.matmul), strict=True)
    sizes = [size[2:] for node, size in found if "blocks.0" in node.meta["layer"]]
    assert sorted(sizes) == [(2, 4), (2, 9), (4, 4), (7, 4)]


def test_a_layer_whose_activation_is_left_out_is_one_product(case: Case) -> None:
    graph = lowered(case, case.with_(gelu=case.same), *PASSES)
    hidden = [n for n in calls(graph, mpc.linear) if n.meta["layer"].startswith("blocks.0.mlp")]
    assert [tuple(n.meta["val"].shape) for n in hidden] == [(1, 9, 8)]


def test_tokens_whose_activation_is_left_out_meet_one_product(case: Case) -> None:
    graph = lowered(case, case.with_(gelu=case.tokens(1, 4, 8)), *PASSES)
    sizes = [tuple(n.meta["val"].shape)[1:] for n in calls(graph, mpc.linear) if n.meta["layer"].startswith("blocks.0.mlp")]
    assert sorted(sizes) == [(3, 8), (6, 8), (6, 16)]
    assert any(n.meta.get("part") == "1,4,8" for n in calls(graph, mpc.linear))


def test_where_nothing_is_saved_nothing_moves(case: Case) -> None:
    split = Split(1, (Part((0, 1, 2), case.plan.choices[GELU]), Part(tuple(range(3, 9)), Choice("gelu_relu"))))  # type: ignore[arg-type]
    refusals: list[Refusal] = []
    graph = lowered(case, case.with_(gelu=split), *PASSES, refusals=refusals)
    sizes = [tuple(n.meta["val"].shape)[1:] for n in calls(graph, mpc.linear) if n.meta["layer"].startswith("blocks.0.mlp")]
    assert sizes == [(9, 16), (9, 8)]
    assert any("so none would be saved" in one.reason for one in refusals)


def test_rounds_are_those_of_the_longer_part_and_openings_the_sum(case: Case) -> None:
    relu, scaling = (schedule(case.prepared, case.with_(softmax=one)) for one in (case.relu, case.scaling))
    both = schedule(case.prepared, case.with_(softmax=case.heads))
    assert scaling.cost.rounds < relu.cost.rounds == both.cost.rounds
    assert opened(both) == (opened(relu) + opened(scaling)) / 2
    exact, same = schedule(case.prepared, case.plan), schedule(case.prepared, case.with_(gelu=case.same))
    some = schedule(case.prepared, case.with_(gelu=case.tokens(1, 4, 8)))
    shared = 1  # the norm's factor is read by two products, so its own last product is not taken together with one of them
    assert some.cost.rounds == exact.cost.rounds + shared > same.cost.rounds
    gelu, twice = 2 * 9 * 16, 9 * (8 + 1)  # of nine tokens of 8 values: these and their factor are opened for either product
    assert opened(some) == opened(exact) - gelu * 3 / 9 + twice
    assert opened(same) < opened(some)


def test_the_emulation_is_the_plan_s_function(case: Case) -> None:
    plan = case.with_(softmax=case.heads, gelu=case.tokens(1, 4, 8))
    x: Tensor = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, -1.0, 2.0, -0.5, 1.5] * 2).reshape(1, 2, 3, 3)
    with torch.no_grad():
        expected = expand(case.prepared.graph, plan, registry.approximations())(x)
    assert expected.abs().max() > 0.05  # twenty-five times what the emulation may be off
    found = Emulator(schedule(case.prepared, plan))(x)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
