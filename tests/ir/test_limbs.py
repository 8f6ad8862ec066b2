"""Products of ring integers by way of float64: the same integers modulo 2^64 as torch's, whatever their size and shape."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mpcc.ir import limbs
from mpcc.ir.limbs import Fixed, Speed, exact, matmul
from mpcc.ir.ring import bilinear

END = 1 << 63
EXTREMES = (-END, END - 1, -1, 0, 1, -(END >> 1), (END >> 1) - 1, 0x5555555555555555)
REAL, INTEGER = Speed(1.0, 1e-9, 1e-9, 1e-9), Speed(1e-9, 1.0, 1.0)
"""Machines that do well with one of the two ways only."""


@pytest.fixture(params=[REAL, INTEGER], ids=["real", "integer"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limbs, "speed", lambda: request.param)
    monkeypatch.setattr(limbs, "LEAST_WORK", 0)


def drawn(bits: int, *shape: int) -> Tensor:
    """Signed integers of so many bits and a sign; 63 are the whole ring."""
    generator = torch.Generator().manual_seed(bits)
    return torch.randint(-(1 << bits), (1 << bits) - 1, shape, generator=generator)


@pytest.mark.parametrize(("x", "y"), list(itertools.combinations_with_replacement(EXTREMES, 2)))
@pytest.mark.parametrize("terms", [1, 5, 512, 513])
def test_extremes(x: int, y: int, terms: int) -> None:
    """All values at the ring's ends, where limbs are largest and their sums longest."""
    left, right = torch.full((2, terms), x), torch.full((terms, 3), y)
    assert torch.equal(exact(left, right), torch.matmul(left, right))


@pytest.mark.parametrize(("x_bits", "y_bits"), [(8, 9), (20, 50), (30, 12), (45, 45), (63, 13), (13, 63), (63, 63), (0, 63)])
@pytest.mark.parametrize(
    "shapes", [((1, 1), (1, 1)), ((65, 64), (64, 33)), ((2, 3, 700), (700, 5)), ((4, 1, 3, 9), (4, 2, 9, 4))]
)
def test_sizes_and_shapes(x_bits: int, y_bits: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    x, y = drawn(x_bits, *shapes[0]), drawn(y_bits, *shapes[1])
    assert torch.equal(exact(x, y), torch.matmul(x, y))


@pytest.mark.parametrize("shapes", [((2, 0), (0, 3)), ((0, 4), (4, 3)), ((3, 4), (4, 0)), ((0, 2, 3), (3, 2)), ((3,), (3,)),
                                    ((3,), (3, 2)), ((2, 3), (3,))])  # fmt: skip
def test_empty_ones_and_vectors(machine: None, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    x, y = drawn(63, *shapes[0]), drawn(63, *shapes[1])
    assert torch.equal(matmul(x, y), torch.matmul(x, y))


@pytest.mark.parametrize("kind", ["linear", "matmul", "rmatmul"])
@pytest.mark.parametrize("bits", [3, 20, 31, 45, 63])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_a_weight_made_ready(machine: None, kind: str, bits: int, batch: tuple[int, ...]) -> None:
    """For weights of any size; large ones have no single limb."""
    weight = drawn(bits, 48, 33) if kind != "matmul" else drawn(bits, 33, 48)
    x = drawn(63, *batch, 33, 7) if kind == "rmatmul" else drawn(63, *batch, 7, 33)
    right = weight.mT if kind == "linear" else weight
    fixed, plain = Fixed(weight), torch.matmul(weight, x) if kind == "rmatmul" else torch.matmul(x, right)
    assert torch.equal(bilinear(kind, x, weight), plain)
    for _ in range(2):
        assert torch.equal(fixed.product(kind, x), plain)


@pytest.mark.parametrize(("kind", "shape"), [("linear", (33,)), ("matmul", (48,)), ("rmatmul", (33,))])
def test_a_weight_made_ready_for_a_vector(machine: None, kind: str, shape: tuple[int, ...]) -> None:
    weight, x = drawn(13, 48, 33), drawn(63, *shape)
    assert torch.equal(Fixed(weight).product(kind, x), bilinear(kind, x, weight))


@pytest.mark.parametrize("groups", [1, 3])
def test_a_convolution(machine: None, groups: int) -> None:
    x, weight = drawn(63, 2, 6, 9, 9), drawn(20, 9, 6 // groups, 3, 3)
    parts = [
        torch.einsum("bcijkl,ockl->boij", part.unfold(2, 3, 2).unfold(3, 3, 2), rows)
        for part, rows in zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True)
    ]
    assert torch.equal(bilinear("conv", x, weight, ((2, 2), (0, 0), (1, 1), groups)), torch.cat(parts, 1))


def test_many_calls_at_once(machine: None) -> None:
    """One operand may be the same for all, and of lower rank."""
    x, y = drawn(63, 5, 2, 3, 9), drawn(30, 5, 1, 9, 4)
    assert torch.equal(torch.func.vmap(matmul)(x, y), torch.matmul(x, y))
    assert torch.equal(torch.func.vmap(matmul, in_dims=(0, None))(x, y[0, 0]), torch.matmul(x, y[0, 0]))
    ranks = torch.func.vmap(matmul)(x, y[:, 0])
    assert torch.equal(ranks, torch.stack([torch.matmul(a, b) for a, b in zip(x, y[:, 0], strict=True)]))
    fixed = Fixed(y[0, 0])
    assert torch.equal(torch.func.vmap(lambda one: fixed.product("matmul", one))(x), torch.matmul(x, y[0, 0]))


def test_reals_and_shapes_alone_are_left_to_torch(machine: None) -> None:
    x, y = torch.randn(64, 64), torch.randn(64, 64)
    assert torch.equal(matmul(x, y), torch.matmul(x, y))
    assert matmul(x.to("meta").long(), y.to("meta").long()).shape == (64, 64)


def test_the_faster_way_is_measured() -> None:
    found = limbs.speed()
    assert min(found.integer, found.real, found.made) > 0
    assert limbs.speed() is found
