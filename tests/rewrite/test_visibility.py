"""Public parameters: which a pattern selects, what of a model they make public, and where it is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc.errors import UsageError
from mpcc.rewrite.visibility import FROZEN, Cut, cut_prefix, frozen_parameters, is_public, mark_public, matching

NAMES = ["stem.conv.weight", "blocks.0.fc.weight", "blocks.9.fc.bias", "blocks.10.fc.weight", "head.weight"]


@pytest.mark.parametrize(
    ("pattern", "selected"),
    [
        ("blocks.*", NAMES[1:4]),
        ("blocks.0-9.*", NAMES[1:3]),
        ("blocks.10.fc.weight", NAMES[3:4]),
        ("*.weight", [NAMES[0], NAMES[1], NAMES[3], NAMES[4]]),
        ("*", NAMES),
        ("block.*", []),
        ("blocks", []),
    ],
)
def test_a_pattern_selects(pattern: str, selected: list[str]) -> None:
    assert matching(pattern, NAMES) == set(selected)


def test_an_empty_range_is_an_error() -> None:
    with pytest.raises(UsageError, match="empty"):
        matching("blocks.9-0.*", NAMES)


class Residual(nn.Module):
    """A stem with a batch norm, two residual blocks, a head that reads the stem as well."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.head = nn.Linear(8, 3)
        nn.init.normal_(self.bn.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        early = x
        for block in self.blocks:
            x = x + torch.nn.functional.gelu(block(x))
        return self.head(x + early).mean((1, 2))


def cut(model: nn.Module, x: Any, *patterns: str) -> Cut:
    graph = mpcc.capture(model.eval(), x)
    mark_public(graph, patterns, frozen_parameters(model))
    return cut_prefix(graph)


@pytest.mark.parametrize(
    ("patterns", "inputs"),
    [(("stem.*", "bn.*"), 1), (("stem.*", "bn.*", "blocks.0.*"), 2), (("stem.*", "bn.*", "blocks.0-1.*"), 1)],
    ids=["stem", "with a block", "all but the head"],
)
def test_both_parts_together_are_the_model(patterns: tuple[str, ...], inputs: int) -> None:
    model, x = Residual().eval(), torch.randn(1, 1, 8, 8)
    found = cut(model, x, *patterns)
    assert found.prefix is not None
    between = found.prefix(x)
    assert len(between) == inputs
    torch.testing.assert_close(found.rest(*between), model(x))
    assert not set(dict(found.rest.named_parameters())) & set(found.names)


def test_what_was_made_of_a_secret_parameter_is_secret() -> None:
    """A batch norm is folded into the convolution, whose weight then tells what the norm's are."""
    model, x = Residual().eval(), torch.randn(1, 1, 8, 8)
    graph = mpcc.capture(model, x)
    mark_public(graph, ["stem.*"])
    assert not any(is_public(node) for node in graph.graph.nodes if node.op == "get_attr" and "stem" in str(node.target))
    with pytest.raises(UsageError, match="nothing would be gained"):
        cut_prefix(graph)


def test_without_a_public_beginning_nothing_is_cut() -> None:
    """What is public behind a secret stays with the parties."""
    found = cut(Residual(), torch.randn(1, 1, 8, 8), "blocks.*", "head.*")
    assert found.prefix is None and "head.weight" in found.names
    known = {str(node.target) for node in found.rest.graph.nodes if node.op == "get_attr" and is_public(node)}
    assert {"blocks.0.weight", "blocks.1.weight", "head.weight"} <= known and not any("stem" in name for name in known)


def test_no_secret_is_in_the_public_part() -> None:
    """Whatever the secret parameters are, the public part is the same."""
    x, found = torch.randn(1, 1, 8, 8), []
    model = Residual().eval()
    for _ in range(2):
        prefix = cut(model, x, "stem.*", "bn.*", "blocks.0.*").prefix
        assert prefix is not None
        found.append(prefix.state_dict())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(("blocks.1", "head")):
                    parameter.normal_()
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_frozen_parameters_are_a_pattern() -> None:
    model, x = Residual().eval(), torch.randn(1, 1, 8, 8)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    assert cut(model, x, FROZEN).prefix is None  # a buffer is no parameter: the batch norm's statistics stay secret
    assert "blocks.1.weight" in cut(model, x, FROZEN, "bn.*").names


def test_a_pattern_that_selects_nothing_names_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"block\.\*(.|\n)*blocks"):
        cut(Residual(), torch.randn(1, 1, 8, 8), "block.*")


def test_an_input_is_no_parameter() -> None:
    with pytest.raises(UsageError, match=r"x is an input: --fix x=VALUE"):
        cut(Residual(), torch.randn(1, 1, 8, 8), "x")


def test_a_model_that_is_public_as_a_whole_needs_nobody() -> None:
    with pytest.raises(UsageError, match="without anybody"):
        cut(Residual(), torch.randn(1, 1, 8, 8), "*")
