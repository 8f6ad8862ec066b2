"""Public weights behind a secret one: no opening, no set-up, no dealer material; the same answers, and nothing more known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc.bundle import open_bundle
from mpcc.errors import BundleError, InvalidGraph
from mpcc.ir import online
from mpcc.ir.info import weight_of
from mpcc.program import Program
from mpcc.program.batch import batched
from mpcc.program.check import check_masks
from mpcc.program.correlations import check_correlations
from mpcc.runtime.engine.evaluate import Party
from mpcc.runtime.executable import Executable


class Adapted(nn.Module):
    """A secret layer, then a frozen one with an adapter beside it, in a pre-norm residual block; a frozen convolution last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.frozen, self.lora_A, self.lora_B = nn.Linear(8, 8), nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)
        self.out, self.conv = nn.Linear(8, 8), nn.Conv1d(4, 3, 3, padding=1)
        for module in (self.frozen, self.out, self.conv, self.norm):
            module.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(x)
        y = nn.functional.gelu(self.frozen(y) + 0.5 * self.lora_B(self.lora_A(y)))
        return self.conv(x + self.out(y))


IMAGES = torch.randn(80, 4, 6, generator=torch.Generator().manual_seed(0))


def made(model: nn.Module, *public: str) -> Any:
    return mpcc.optimize(model.eval(), (IMAGES[:1],), calibration=IMAGES, public=public, machine="reference")


@pytest.fixture(scope="module")
def secret() -> Any:
    return made(Adapted())


@pytest.fixture(scope="module")
def public() -> Any:
    return made(Adapted(), "frozen")


def kinds(program: Program, target: Any) -> list[Any]:
    return [node for node in program.online.graph.nodes if node.target is target]


def test_nothing_is_opened_dealt_or_set_up_for_them(secret: Any, public: Any) -> None:
    before, after = secret.program.cost, public.program.cost
    assert after.rounds < before.rounds and after.bytes < before.bytes
    assert after.setup_bytes < before.setup_bytes and after.dealer_bytes < before.dealer_bytes
    opened = {weight_of(node.args[0].args[0]).constant for node in kinds(public.program, online.open_weight)}
    assert opened and not opened & public.program.public_names
    assert {name.partition(".")[0] for name in public.program.public_names} == {"out", "conv"}


def test_a_private_run_is_as_predicted(public: Any) -> None:
    executable, x = public.executable(), IMAGES[:1]
    run = executable.run(x)
    with torch.no_grad():
        expected = Adapted().eval()(x)
    assert (run.rounds, run.bytes) == (public.program.cost.rounds, public.program.cost.bytes)
    assert (run.output - expected).abs().max() < 0.05 and (executable.emulate(x) - expected).abs().max() < 0.01


def test_what_is_public_is_made_of_public_parameters_alone(public: Any) -> None:
    """Whatever the secret ones are, everybody knows the same."""
    other = Adapted()
    with torch.no_grad():
        for module in (other.stem, other.lora_A, other.lora_B):
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) / 8)
    found = made(other, "frozen").program.public_constants
    assert found.keys() == public.program.public_constants.keys()
    assert all(torch.equal(value, public.program.public_constants[name]) for name, value in found.items())


def test_the_client_holds_no_secret_weight(public: Any, tmp_path: Path) -> None:
    """Neither in its files nor, once it has loaded them, among the tensors of its party."""
    bundle = public.save(tmp_path / "m.mpcc")
    program = public.program
    hidden = {name: value for name, value in program.constants.items() if name not in program.public_names}
    text = b"".join(path.read_bytes() for path in sorted((bundle / "public").iterdir()))
    assert not any(value.float().numpy().tobytes()[:16] in text for value in hidden.values())
    client = open_bundle(bundle / "public", weights=False).program
    assert all(client.constants[name].is_meta for name in hidden)
    known = Party(client, 1).fixed
    for node in client.online.graph.nodes:
        weight = weight_of(node)
        if weight is not None:
            assert (known[node.name] is not None) == (weight.constant in program.public_names)


def test_the_bundle_is_the_same_executable(public: Any, tmp_path: Path) -> None:
    bundle = public.save(tmp_path / "m.mpcc")
    found, expected = Executable.load(bundle).emulate(IMAGES[:4]), public.executable().emulate(IMAGES[:4])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    (bundle / "public" / "public.safetensors").unlink()
    with pytest.raises(BundleError, match="public.safetensors is missing"):
        open_bundle(bundle / "public", weights=False)


def test_masks_and_correlations_are_checked_as_ever(public: Any) -> None:
    for size in (1, 3):
        program = batched(public.program, size)
        check_masks(program)
        check_correlations(program)


class Frozen(nn.Module):
    """A secret layer, a norm, which opens its value, and a frozen layer of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.norm, self.second = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.second(self.norm(self.first(x))))


def test_both_halves_of_a_product_are_of_one_public_weight() -> None:
    """Where the value is opened anyway: c W at the server, minus the shares of r W."""
    made_of = made(Frozen(), "norm.*", "second.*").program
    program = Program.from_json(made_of.to_json(), made_of.constants)
    check_correlations(program)
    (product,) = [one for one in kinds(program, online.weight_product) if one.args[3].target is online.public_product]
    half = product.args[3]
    half.args = ("matmul", *half.args[1:])
    with pytest.raises(InvalidGraph, match="of another product"):
        check_correlations(program)


def test_what_is_opened_anyway_is_multiplied_as_it_is() -> None:
    """So that the client's part of the next opening is sent before the input: fewer bytes in the rounds, and as few of these."""
    before, after = made(Frozen()).program, made(Frozen(), "norm.*", "second.*").program
    assert after.cost.rounds == before.cost.rounds and after.cost.bytes <= before.cost.bytes
    assert after.cost.setup_bytes < before.cost.setup_bytes and after.cost.dealer_bytes < before.cost.dealer_bytes
