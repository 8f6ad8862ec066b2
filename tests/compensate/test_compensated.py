"""Whole models compensated: what gets better, what is left alone, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import mpcc
from mpcc import registry
from mpcc.approximate import Choice, Plan
from mpcc.approximate.recipe import KEEP, Use
from mpcc.calibration.range_check import structural_functions
from mpcc.calibration.ranges import outputs_with
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.compensate import QUICK, Compensated, Effort, Judge, compensated
from mpcc.ir.nn import PUBLIC, attribute
from mpcc.search.metrics import FEATURES
from mpcc.search.recipes import chosen

KNOWN = registry.approximations()
JUDGE = Judge(FEATURES.loss, FEATURES.drop, FEATURES.drop_name)


class Attention(nn.Module):
    """Self-attention of two heads over [batch, tokens, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(len(x), -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    def __init__(self, post: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attention, self.post = nn.LayerNorm(16), nn.LayerNorm(16), Attention(), post
        self.fc1, self.fc2 = nn.Linear(16, 32), nn.Linear(32, 16)

    def mlp(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))

    def forward(self, x: Tensor) -> Tensor:
        if self.post:
            x = self.norm1(x + self.attention(x))
            return self.norm2(x + self.mlp(x))
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Shared(nn.Module):
    """The same block twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))


class Tokens(nn.Module):
    """Token ids, and a second input that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.block = nn.Embedding(11, 16), Block()

    def forward(self, ids: Tensor, shift: Tensor) -> Tensor:
        return self.block(self.table(ids) + shift)


class Hybrid(nn.Module):
    """Convolutions with activations between them, one of them depthwise, before a block; no class token."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth, self.point = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 16, 1)
        self.block, self.head = Block(), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.stem(x))
        x = x + functional.gelu(self.depth(x))
        return self.head(self.block(self.point(x).flatten(2).transpose(1, 2)).mean(1))


def graph_of(model: nn.Module, *example: Tensor) -> fx.GraphModule:
    return mpcc.transform(model.eval(), example)


def plan_for(graph: fx.GraphModule, inputs: list[tuple[Tensor, ...]], **uses: str) -> Plan:
    """These approximations at these operators, the best that keeps the function at the others."""
    wanted = {operator: Use(name) for operator, name in uses.items()}
    return fit_sequentially(graph, inputs, lambda seen: chosen(wanted.get(seen.site.operator, KEEP), seen, KNOWN, ""), KNOWN)


def loss(found: Compensated, graph: fx.GraphModule, inputs: list[tuple[Tensor, ...]]) -> float:
    made = outputs_with(found.graph, inputs, structural_functions(found.graph, found.plan, KNOWN))
    return FEATURES.loss(made, outputs_with(graph, inputs, {}))


def smooth(count: int, *shape: int) -> list[tuple[Tensor, ...]]:
    """Inputs of few degrees of freedom, as real ones are."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.randn(6, *shape, generator=generator)
    return [(torch.einsum("i,i...->...", torch.randn(6, generator=generator), basis)[None] / 2,) for _ in range(count)]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (Block, (6, 16)),
        (lambda: Block(post=True), (6, 16)),
        (lambda: nn.Sequential(Block(), Block()), (6, 16)),
        (Hybrid, (1, 8, 8)),
    ],
    ids=["pre-norm", "post-norm", "two blocks", "conv hybrid"],
)
def test_inputs_that_took_no_part_come_out_nearer_to_the_model_as_it_was(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    inputs = smooth(160, *shape)
    graph = graph_of(make(), *inputs[0])
    plan = plan_for(graph, inputs[:96], softmax="softmax_scaling", gelu="gelu_identity")
    found = compensated(graph, plan, inputs[:96], KNOWN, JUDGE, effort=QUICK)
    assert found.report.taken, found.report
    before = loss(Compensated(graph, plan, found.report), graph, inputs[96:])
    assert loss(found, graph, inputs[96:]) < 0.5 * before
    assert found.report.loss_after < found.report.loss_before
    assert "Compensated" in str(found.report)


def test_nothing_that_was_given_is_changed_and_shapes_stay() -> None:
    torch.manual_seed(0)
    inputs = smooth(64, 6, 16)
    graph = graph_of(Block(), *inputs[0])
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    plan = plan_for(graph, inputs, softmax="softmax_2quad")
    text = plan.to_json()
    found = compensated(graph, plan, inputs, KNOWN, JUDGE)
    assert found.report.taken
    assert plan.to_json() == text
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    after = found.graph.state_dict()
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in before.items()}
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    again = compensated(graph, plan, inputs, KNOWN, JUDGE)
    assert all(torch.equal(value, after[name]) for name, value in again.graph.state_dict().items())


def test_what_is_no_better_on_inputs_that_judge_is_not_taken() -> None:
    torch.manual_seed(0)
    inputs = smooth(64, 6, 16)
    graph = graph_of(Block(), *inputs[0])
    plan = plan_for(graph, inputs, softmax="softmax_scaling")
    found = compensated(graph, plan, inputs, KNOWN, Judge(lambda outputs, reference: 1.0, FEATURES.drop, "anything"))
    assert not found.report.taken
    assert (found.graph, found.plan) == (graph, plan)
    assert "no nearer" in str(found.report)


def test_a_plan_without_structural_choices_is_left_alone() -> None:
    torch.manual_seed(0)
    inputs = smooth(64, 6, 16)
    graph = graph_of(Block(), *inputs[0])
    plan = plan_for(graph, inputs)
    found = compensated(graph, plan, inputs, KNOWN, JUDGE)
    assert (found.report.taken, found.graph, found.plan) == (False, graph, plan)


def test_shared_weights_are_left_alone_and_named() -> None:
    torch.manual_seed(0)
    inputs = smooth(64, 6, 16)
    graph = graph_of(Shared(), *inputs[0])
    found = compensated(graph, plan_for(graph, inputs, gelu="gelu_identity"), inputs, KNOWN, JUDGE)
    shared = {name for name, why in found.report.skipped.items() if "shared" in why}
    assert shared
    for name in shared:
        assert torch.equal(attribute(found.graph, name), attribute(graph, name))


def test_public_weights_are_left_alone() -> None:
    torch.manual_seed(0)
    inputs = smooth(64, 6, 16)
    graph = graph_of(Block(), *inputs[0])
    for node in graph.graph.nodes:
        if node.op == "get_attr" and "fc2" in str(node.target):
            node.meta[PUBLIC] = True
    found = compensated(graph, plan_for(graph, inputs, gelu="gelu_identity"), inputs, KNOWN, JUDGE)
    assert any("public" in why for why in found.report.skipped.values())
    assert all(torch.equal(v, attribute(graph, k)) for k, v in found.graph.state_dict().items() if "fc2" in k)


def test_token_ids_and_several_inputs() -> None:
    torch.manual_seed(0)
    inputs = [(torch.randint(0, 11, (1, 6)), torch.randn(1, 6, 16)) for _ in range(160)]
    graph = graph_of(Tokens(), *inputs[0])
    plan = plan_for(graph, inputs[:128], gelu="gelu_identity")
    found = compensated(graph, plan, inputs[:128], KNOWN, JUDGE)
    assert found.report.taken
    assert loss(found, graph, inputs[128:]) < loss(Compensated(graph, plan, found.report), graph, inputs[128:])


def test_members_are_fitted_again_and_built_alike() -> None:
    torch.manual_seed(0)
    inputs = smooth(64, 6, 16)
    graph = graph_of(nn.Sequential(Block(), Block()), *inputs[0])
    plan = plan_for(graph, inputs, softmax="softmax_scaling")
    found = compensated(graph, plan, inputs, KNOWN, JUDGE)
    assert found.report.taken
    changed = [site for site, entry in plan.choices.items() if found.plan.choices[site] != entry]
    assert changed
    for site, entry in plan.choices.items():
        new = found.plan.choices[site]
        assert isinstance(new, Choice)
        assert isinstance(entry, Choice)
        assert (new.approximation, list(new.options)) == (entry.approximation, list(entry.options))


def test_steps_of_gradient_bring_the_outputs_nearer_still() -> None:
    torch.manual_seed(0)
    inputs = smooth(96, 6, 16)
    graph = graph_of(nn.Sequential(Block(), Block()), *inputs[0])
    plan = plan_for(graph, inputs, softmax="softmax_scaling")
    closed, moved = (compensated(graph, plan, inputs, KNOWN, JUDGE, effort=Effort(96, 0, steps)) for steps in (0, 60))
    assert moved.report.taken
    assert moved.report.loss_after < closed.report.loss_after
    assert "60 steps" in str(moved.report)
    made = outputs_with(moved.graph, inputs[-20:], structural_functions(moved.graph, moved.plan, KNOWN))
    assert FEATURES.loss(made, outputs_with(graph, inputs[-20:], {})) < closed.report.loss_before
