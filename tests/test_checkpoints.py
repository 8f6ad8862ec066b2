"""A checkpoint of the user's model loads into what `transform` made of it, whatever became of its parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import mpcc


class Attention(nn.Module):
    """A joint projection behind a norm, and a batch norm behind a convolution: parameters that are split, folded and gone."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, width, 2, 2), nn.BatchNorm2d(width)
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x)).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(((q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


def other(model: nn.Module) -> nn.Module:
    """The same model after some training, which moves statistics too."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for value in [*made.parameters(), *(b for b in made.buffers() if b.is_floating_point())]:
            value.copy_(torch.rand_like(value) + 0.1)
    return made.eval()


X = (torch.zeros(1, 1, 4, 4),)


def test_a_checkpoint_of_the_model_loads() -> None:
    """Split projections, folded norms, a batch norm: the outputs are those of the checkpoint's model."""
    model = Attention().eval()
    graph, trained, x = mpcc.transform(model, X), other(model), torch.randn(1, 1, 4, 4)
    assert "qkv.weight" not in graph.state_dict() and "bn.weight" not in graph.state_dict()
    assert graph.load_state_dict(trained.state_dict()) == ([], [])
    assert torch.allclose(graph(x), trained(x), atol=1e-5) and not torch.allclose(graph(x), model(x), atol=1e-2)


def test_a_checkpoint_of_the_graph_loads_as_always() -> None:
    model = Attention().eval()
    graph = mpcc.transform(model, X)
    kept = {name: value + 1 for name, value in graph.state_dict().items()}
    graph.load_state_dict(kept)
    assert all(torch.equal(value, kept[name]) for name, value in graph.state_dict().items())
    assert copy.deepcopy(graph).load_state_dict(model.state_dict()) == ([], [])


def test_what_is_missing_is_named_as_the_model_names_it() -> None:
    model = Attention().eval()
    found = model.state_dict()
    found["head.weight"] = found.pop("qkv.bias")
    with pytest.raises(RuntimeError, match=r'Missing key.*"qkv.bias"') as error:
        mpcc.transform(model, X).load_state_dict(found)
    assert '"head.weight"' in str(error.value)


def test_names_that_do_not_tell_whose_they_are_are_told() -> None:
    """A constant scale folded into a weight that keeps its name."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_buffer("gamma", torch.arange(1.0, 5.0), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * self.gamma

    model = Scaled().eval()
    graph = mpcc.transform(model, (torch.zeros(1, 4),))
    assert list(graph.state_dict()) == list(model.state_dict()), "the premise: a pass that folds and keeps names"
    with pytest.warns(UserWarning, match="name their parameters alike"):
        graph.load_state_dict(model.state_dict())
