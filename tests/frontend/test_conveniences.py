"""Models as people write them: whole-number inputs, nested outputs, conditions on buffers, writes, complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpcc import capture
from mpcc.errors import CaptureError, UnsupportedOperator


class Calls(nn.Module):
    """A function as a module, with a few constants."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)


def agrees(function: Callable[..., Any], *inputs: torch.Tensor, atol: float = 1e-5) -> None:
    """Captured and run on the inputs as floats, the function gives what it gives in PyTorch, shape included."""
    graph = capture(Calls(function), inputs)
    with torch.no_grad():
        wanted, found = function(*inputs), graph(*[x.float() for x in inputs])
    flat = [found] if isinstance(found, torch.Tensor) else list(found)
    leaves = torch.utils._pytree.tree_leaves(wanted)
    assert [tuple(item.shape) for item in flat] == [tuple(item.shape) for item in leaves]
    assert all(torch.allclose(mine, theirs.float(), atol=atol) for mine, theirs in zip(flat, leaves, strict=True))


# ------------------------------------------------------------------------------------------------- whole numbers

PIXELS = torch.randint(0, 256, (1, 4, 5, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    "function",
    [
        lambda u: u.float() / 255,
        lambda u: F.gelu(u.permute(0, 3, 1, 2).float() / 255 - 0.5),
        lambda u: u.unsqueeze(0)[..., :2].to(torch.float32),
        lambda u: torch.softmax(u / 255, -1),
        lambda u: torch.cat([u.flatten(1)], 0).float(),
    ],
)
def test_bytes_of_images(function: Callable[..., Any]) -> None:
    agrees(function, PIXELS)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_masks_of_zeros_and_ones(dtype: torch.dtype) -> None:
    x, mask = torch.randn(1, 4, 4), torch.tensor([[1, 1, 0, 1]], dtype=dtype)
    agrees(lambda x, m: (x + (1.0 - m[:, None, :].float()) * -30.0).softmax(-1), x, mask)


def test_bytes_that_wrap_around_are_refused() -> None:
    with pytest.raises(UnsupportedOperator):
        capture(Calls(lambda u: (u * 2).float()), PIXELS)


# --------------------------------------------------------------------------------------------------------- outputs


@dataclass
class Answer:
    logits: torch.Tensor
    rest: dict[str, Any]


def test_tensors_in_dataclasses_are_outputs() -> None:
    agrees_with = Calls(lambda x: (Answer(x + 1, {"hidden": x * 2, "name": "a", "more": Answer(x, {})}), None))
    x = torch.randn(1, 3)
    found = capture(agrees_with, x)(x)
    assert [torch.equal(a, b) for a, b in zip(found, (x + 1, x * 2, x), strict=True)] == [True] * 3


@pytest.mark.parametrize("nested", [False, True])
def test_tensors_in_other_objects_are_refused_by_name(nested: bool) -> None:
    class KeyCache:
        def __init__(self, x: torch.Tensor) -> None:
            self.layers = [{"keys": x}] if nested else x

    with pytest.raises(CaptureError, match="returns a KeyCache, which holds tensors"):
        capture(Calls(lambda x: (x + 1, KeyCache(x))), torch.randn(3))


# ------------------------------------------------------------------------------------------------------ conditions


class Asks(nn.Module):
    """Conditions and loops on buffers."""

    def __init__(self, on: int) -> None:
        super().__init__()
        self.register_buffer("on", torch.tensor([on]))
        self.register_buffer("times", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2 if self.on[0] == 1 else x
        for _ in range(int(self.times)):
            y = y + 1
        return y * 3 if (self.on > 0).any() and self.times.item() > 2 else y


@pytest.mark.parametrize("on", [0, 1])
def test_conditions_on_buffers_are_decided(on: int) -> None:
    x = torch.randn(1, 4)
    assert torch.allclose(capture(Asks(on), x)(x), Asks(on)(x))


def test_conditions_on_inputs_are_refused_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError, match="the values of an input, which are secret"):
        capture(Calls(lambda x: x if (x * 2)[0] > 0 else -x), torch.randn(3))
    assert capfd.readouterr() == ("", "")


def test_torchscript_is_refused_by_name() -> None:
    traced = torch.jit.trace(nn.Sequential(nn.Linear(8, 8), nn.GELU()).eval(), torch.randn(1, 8))
    with pytest.raises(CaptureError, match="does not read TorchScript"):
        capture(traced, torch.randn(1, 8))


# --------------------------------------------------------------------------------------- what has no canonical form


def test_what_follows_an_operator_without_a_form_does_not_hide_it() -> None:
    layer = nn.Linear(8, 8)
    with pytest.raises(UnsupportedOperator, match="fake_quantize_per_tensor_affine"):
        capture(Calls(lambda x: layer(torch.fake_quantize_per_tensor_affine(x, 0.05, 0, -128, 127))), torch.randn(1, 8))


# ---------------------------------------------------------------------------------------- writes at constant places

I = torch.tensor  # noqa: E741


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.scatter(1, I([[0, 3, 5]]), 0.0),
        lambda x: x.scatter(1, I([[0, 3, 5], [1, 1, 2]]), x[:, :3] * 2),
        lambda x: x.scatter(0, I([[0, 1, 0]]), x.sum(0, keepdim=True)[:, :3]),
        lambda x: x.scatter_add(1, I([[0, 0, 0], [7, 6, 7]]), x[:, 2:5]),
        lambda x: x.index_add(1, I([0, 0, 3]), x[:, :3], alpha=0.5),
        lambda x: x.index_copy(1, I([5, 2]), x[:, :2]),
        lambda x: x.index_fill(1, I([5, 2]), 3.0),
        lambda x: x.index_put((I([0, 1]), I([3, 4])), x[:, 0]),
        lambda x: x.index_put((I([0, 1, 1]), I([3, 4, 4])), x[0, :3], accumulate=True),
        lambda x: x.slice_scatter(x[:, :2], 1, 4, 8, 2),
        lambda x: x.select_scatter(x[:, 0], 1, 5),
        lambda x: torch.zeros(2, 8).scatter(1, I([[1], [2]]), x[:, :1]),
        lambda x: x.scatter_reduce(1, I([[0, 0], [1, 1]]), x[:, :2], "sum"),
    ],
)
def test_writes(function: Callable[..., Any]) -> None:
    agrees(function, torch.randn(2, 8))


def test_writes_at_secret_places_are_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="secret places"):
        capture(Calls(lambda x, i: x.scatter(1, i, 0.0)), (torch.randn(2, 8), torch.zeros(2, 2, dtype=torch.long)))


# -------------------------------------------------------------------------------------------------- complex numbers

CIS = torch.polar(torch.ones(6, 4), torch.outer(torch.arange(6.0), 100.0 ** -(torch.arange(4) / 4)))


def as_complex(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.view_as_real(as_complex(x) * CIS).flatten(-2),
        lambda x: torch.view_as_real((as_complex(x) * CIS).transpose(0, 1)[1:] + 1).flatten(-2),
        lambda x: (as_complex(x).conj() * as_complex(x + 1)).real,
        lambda x: (as_complex(x) * (2 - 1j)).imag,
        lambda x: torch.view_as_real(x[..., :4] * CIS),
        lambda x: torch.view_as_real(torch.complex(x, x + 1) - CIS.repeat(1, 2)),
    ],
)
def test_complex_arithmetic_is_real_arithmetic(function: Callable[..., Any]) -> None:
    agrees(function, torch.randn(1, 6, 8))


def test_a_complex_output_is_refused() -> None:
    with pytest.raises(CaptureError, match="complex"):
        capture(Calls(lambda x: as_complex(x) * CIS), torch.randn(1, 6, 8))


# -------------------------------------------------------------------------------------- PyTorch's own decompositions


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.outer(x[0, 0], x[0, 1]),
        lambda x: torch.broadcast_to(x, (5, 2, 3, 4)),
        lambda x: F.cosine_similarity(x[0], x[1]),
        lambda x: F.mse_loss(x[0], x[1]),
        lambda x: torch.fliplr(x),
        lambda x: torch.diff(x),
        lambda x: torch.take_along_dim(x, torch.zeros(2, 3, 1, dtype=torch.long), 2),
        lambda x: torch.block_diag(x[0], x[1]),
        lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3), training=True),
        lambda x: F.batch_norm(x, None, None, training=True),
    ],
)
def test_compositions_are_read_after_their_decomposition(function: Callable[..., Any]) -> None:
    agrees(function, torch.randn(2, 3, 4))


def test_an_error_names_the_operator_that_the_user_wrote() -> None:
    with pytest.raises(UnsupportedOperator, match="aten.frac.default"):
        capture(Calls(torch.frac), torch.randn(3))


# --------------------------------------------------------------------------------------------------- attention, gates


@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_a_query_that_may_see_no_key_gets_zero(kind: torch.dtype) -> None:
    mask = torch.tensor([[True, False], [False, False]])
    given = mask if kind is torch.bool else torch.zeros(2, 2).masked_fill(~mask, -torch.inf)
    agrees(lambda x: F.scaled_dot_product_attention(x, x, x, given), torch.randn(1, 2, 2, 4))


@pytest.mark.parametrize("scale", [0.1675, -2.0, 3.0])
def test_a_scale_behind_a_gate_leaves_it_one_site(scale: float) -> None:
    def hard_swish(x: torch.Tensor) -> torch.Tensor:
        return ((x * 1.384 + 0.586 + 3).clamp(0, 6) * (x * 1.384 + 0.586) / 6) * scale + 3.5e-5

    def shared(x: torch.Tensor) -> torch.Tensor:
        t = x * 1.384 + 0.586
        return ((t + 3).clamp(0, 6) * t / 6) * scale + 3.5e-5

    x = torch.randn(1, 8)
    graph = capture(Calls(shared), x)
    assert [node.meta["site"] for node in graph.graph.nodes if "site" in node.meta] == ["hardswish"]
    assert torch.allclose(graph(x), hard_swish(x), atol=1e-5)
