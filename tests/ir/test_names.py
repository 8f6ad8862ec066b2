"""Names in a graph: free ones for new parameters, and the operator in the name of a site."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mpcc.ir.names import register
from mpcc.ir.nn import attribute, site_operator


@pytest.fixture
def module() -> nn.Module:
    made = nn.Sequential(nn.Linear(2, 2))
    made.register_buffer("mask", torch.zeros(2))
    made.register_buffer("mask_2", torch.zeros(2))
    return made


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("bias", "bias"),
        ("mask", "mask_3"),
        ("0.weight", "0.weight_2"),
        ("0", "0_2"),
        ("new.layer.weight", "new.layer.weight"),
        ("mask.shift", "mask_3.shift"),  # a buffer is no place for another
        ("forward", "forward_"),  # nor is a method a free name
    ],
)
def test_a_parameter_takes_the_wanted_name_or_the_next_with_a_number(module: nn.Module, wanted: str, found: str) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert register(module, wanted, torch.ones(1), trainable=True) == found
    assert attribute(module, found).item() == 1
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("site", ["softmax", "blocks.0.attn.softmax", "blocks.0.attn.softmax#2"])
def test_the_operator_of_a_site(site: str) -> None:
    assert site_operator(site) == "softmax"
