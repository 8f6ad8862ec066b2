"""Which parameters are an adapter's: of models of peft where it is installed, and of models that look like them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc.errors import UsageError
from mpcc.rewrite.adapters import adapter_parameters
from mpcc.rewrite.visibility import FROZEN, frozen_parameters, is_public, mark_public


class Layer(nn.Module):
    """As a layer of peft is: a frozen base, and what `adapter_layer_names` names."""

    adapter_layer_names = ("lora_A", "lora_B", "special")

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.merged = base, False
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base.out_features, bias=False)})
        self.special = nn.ParameterDict({"default": nn.Parameter(torch.ones(base.out_features))})

    def forward(self, x: Tensor) -> Tensor:
        more: Tensor = self.lora_B["default"](self.lora_A["default"](x)) * 0.5
        found: Tensor = self.base_layer(x) + more * self.special["default"]
        return found


class Saved(nn.Module):
    """A module that was trained as a whole: the original beside what is used."""

    def __init__(self, original: nn.Linear) -> None:
        super().__init__()
        self.original_module = original
        self.modules_to_save = nn.ModuleDict({"default": nn.Linear(original.in_features, original.out_features)})

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.modules_to_save["default"](x)
        return found


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.fc2(torch.relu(self.fc1(x)))))
        return found


def adapted() -> Net:
    """As it is loaded for inference: nothing trains."""
    net: Any = Net()
    net.fc2, net.head = Layer(net.fc2), Saved(net.head)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    found: Net = net.eval()
    return found


ADDED = {
    "fc2.lora_A.default.weight", "fc2.lora_B.default.weight", "fc2.special.default", "head.modules_to_save.default.weight",
    "head.modules_to_save.default.bias",
}  # fmt: skip
BASE = {"fc1.weight", "fc1.bias", "fc2.base_layer.weight", "fc2.base_layer.bias"}


def test_the_frozen_base_is_public_and_the_adapter_is_not() -> None:
    net = adapted()
    assert adapter_parameters(net) == ADDED
    assert frozen_parameters(net) == BASE | {"head.original_module.weight", "head.original_module.bias"}
    graph = mpcc.capture(net, torch.zeros(1, 4))
    mark_public(graph, [FROZEN], frozen_parameters(net))
    known = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr" and is_public(node)}
    assert known == BASE


def test_a_base_that_an_adapter_was_merged_into_is_secret() -> None:
    net: Any = adapted()
    net.fc2.merged = True
    assert frozen_parameters(net) & BASE == {"fc1.weight", "fc1.bias"}


def test_names_of_an_adapter_of_ones_own_are_recognised() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.lora_down = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
            self.adapter3 = nn.Linear(2, 2)

    assert adapter_parameters(Own()) == {"lora_down", "adapter3.weight", "adapter3.bias"}
    assert adapter_parameters(Net()) == frozenset()


def test_the_client_computes_what_comes_before_the_adapter() -> None:
    images = torch.randn(64, 4, generator=torch.Generator().manual_seed(3))
    net = adapted()
    made = mpcc.optimize(net, (images[:1],), calibration=images, public=[FROZEN], machine="reference")
    whole = mpcc.optimize(net, (images[:1],), calibration=images, machine="reference")
    assert set(made.public) == BASE and made.estimate.rounds < whole.estimate.rounds
    with torch.no_grad():
        assert (made.executable().emulate(images, check=False) - net(images)).abs().max() < 0.01


def test_without_a_frozen_parameter_that_is_said() -> None:
    graph = mpcc.capture(Net().eval(), torch.zeros(1, 4))
    with pytest.raises(UsageError, match="no parameter is frozen"):
        mark_public(graph, [FROZEN], frozen_parameters(Net()))


def test_models_of_peft() -> None:
    peft = pytest.importorskip("peft", reason="pip install peft")
    config = peft.LoraConfig(r=2, target_modules=["fc2"], modules_to_save=["head"], init_lora_weights=False)
    model = peft.get_peft_model(Net(), config).eval()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for parameter in model.parameters():  # as `PeftModel.from_pretrained` leaves it
        parameter.requires_grad_(False)
    assert adapter_parameters(model) == trained and trained
    images = torch.randn(64, 4, generator=torch.Generator().manual_seed(3))
    made = mpcc.optimize(model, (images[:1],), calibration=images, public=[FROZEN], machine="reference")
    assert {name.removeprefix("base_model.model.") for name in made.public} == BASE
    with torch.no_grad():
        assert (made.executable().emulate(images, check=False) - model(images)).abs().max() < 0.01
