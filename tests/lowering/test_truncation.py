"""Truncation at the edge of its ring: through an opening never off by more than a unit, locally as often as is stated, before
an opening never."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from mpcc.ir import dealer, online
from mpcc.lowering.scales import Ledger

COUNT = 50_000
LOCAL = 1_000_000
UNIFORM = 1 << 62


def uniform(count: int, generator: torch.Generator) -> Tensor:
    """Words over the whole ring."""
    low, high = (torch.randint(0, 1 << 32, (count,), generator=generator) for _ in range(2))
    return low | high << 32


def edge(ring: int, f: int, count: int, generator: torch.Generator, beyond: int = 0) -> Tensor:
    """Values of both signs in the last thousandth below 2^(ring - 2) - 2^f, or that far `beyond`."""
    top = (1 << (ring - 2)) - (1 << f) + beyond
    inward = torch.randint(1, max(2, top >> 10), (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.5, top - inward, inward - top)


class Parties:
    """Both parties' calls of a kernel on shares of what the dealer computes; the sum of their results."""

    def __init__(self, ring: int, seed: int = 0) -> None:
        self.ring, self.generator = ring, torch.Generator().manual_seed(seed)

    def opened(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """(c, r): above bit `ring` c is arbitrary."""
        r = uniform(len(X), self.generator)
        noise = uniform(len(X), self.generator)
        return (X + r) + ((noise << self.ring) if self.ring < 64 else 0), r

    def shared(self, value: Tensor) -> tuple[Tensor, Tensor]:
        first = uniform(value.numel(), self.generator).reshape(value.shape)
        return first, value - first

    def run(self, kernel: Callable[..., Tensor], *arguments: object) -> Tensor:
        """Tuples of two tensors in `arguments` are shares; lists hold such tuples."""

        def of(argument: object, party: int) -> object:
            if isinstance(argument, tuple) and len(argument) == 2 and isinstance(argument[0], Tensor):
                return argument[party]
            return [of(a, party) for a in argument] if isinstance(argument, list) else argument

        return kernel(*(of(a, 0) for a in arguments), lead=True) + kernel(*(of(a, 1) for a in arguments), lead=False)

    def truncated(self, X: Tensor, f: int) -> Tensor:
        c, r = self.opened(X)
        rho, b = dealer.high(r, f, self.ring), dealer.top(r, self.ring)
        return self.run(online.truncated, c, f, self.shared(rho), self.shared(b), self.ring)


def nearest(X: Tensor, f: int) -> Tensor:
    """round(X / 2^f) in integers."""
    return (X + (1 << (f - 1))) >> f


@pytest.mark.parametrize("ring", [64, 56, 48, 40, 37, 32, 24, 19])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_an_opening_truncates_all_values_up_to_the_edge(ring: int, part: float) -> None:
    f = max(1, int((ring - 3) * part))
    parties = Parties(ring)
    X = edge(ring, f, COUNT, parties.generator)
    failures = (parties.truncated(X, f) - nearest(X, f)).abs() > 1
    assert int(failures.sum()) == 0


@pytest.mark.parametrize("ring", [56, 40])
def test_beyond_the_edge_it_fails(ring: int) -> None:
    """So the test above can fail; and the range check of the compiler has something to guard."""
    parties = Parties(ring)
    X = edge(ring, 8, COUNT, parties.generator, beyond=1 << (ring - 3))
    assert ((parties.truncated(X, 8) - nearest(X, 8)).abs() > 1).float().mean() > 0.05


@pytest.mark.parametrize("ring", [64, 48, 40])
def test_polynomials_at_the_edge_are_those_of_the_truncated_value(ring: int) -> None:
    parties = Parties(ring)
    f, coefficients = ring - 12, [7, -5, 3, 2, 11]
    X = edge(ring, f, COUNT, parties.generator)
    c, r = parties.opened(X)
    rho, b = dealer.high(r, f, ring), dealer.top(r, ring)
    powers = [None, *(parties.shared(rho**k) for k in range(1, 5))]
    crossed = [parties.shared(b * rho**k) for k in range(4)]
    found = parties.run(online.power_sum, c, f, coefficients, powers, crossed, ring)
    candidates = [nearest(X, f) + unit for unit in (-1, 0, 1)]
    values = torch.stack([sum(a * u**k for k, a in enumerate(coefficients)) for u in candidates])  # type: ignore[misc]
    assert bool((found == values).any(dim=0).all())


@pytest.mark.parametrize("rings", [(64, 64), (48, 40), (40, 40), (32, 64)])
def test_products_at_the_edge(rings: Sequence[int]) -> None:
    """Of two truncated values: with narrow rings the product of both borrows does not vanish."""
    one, other = Parties(rings[0], 1), Parties(rings[1], 2)
    shifts = [rings[0] - 14, rings[1] - 13]
    X, Y = edge(rings[0], shifts[0], COUNT, one.generator), edge(rings[1], shifts[1], COUNT, other.generator)
    (cx, rx), (cy, ry) = one.opened(X), other.opened(Y)
    parts = [
        (torch.ones_like(r), dealer.high(r, f, ring), dealer.top(r, ring))
        for r, f, ring in zip((rx, ry), shifts, rings, strict=True)
    ]
    terms = [(i, j) for i in range(3) for j in range(3) if (i, j) != (0, 0)]
    shares: list[object] = [one.shared(parts[0][i] * parts[1][j]) for i, j in terms]
    found = one.run(online.multilinear, [cx, cy], shifts, terms, shares, rings)
    near = [
        (nearest(X, shifts[0]) + i) * (nearest(Y, shifts[1]) + j) for i in (-1, 0, 1) for j in (-1, 0, 1)
    ]
    assert bool((found == torch.stack(near)).any(dim=0).all())


@pytest.mark.parametrize("f", [1, 7, 30, 60])
@pytest.mark.parametrize("magnitude", [3, 40, 61, 63])
def test_shares_that_are_cut_before_they_are_opened_never_fail(f: int, magnitude: int) -> None:
    """Off by at most a unit, modulo what an opening may have left: for values so large that a local truncation fails often."""
    generator = torch.Generator().manual_seed(magnitude)
    X = uniform(COUNT, generator) >> (63 - magnitude)
    first = uniform(COUNT, generator)
    first[:4] = torch.tensor([0, -1, (1 << 63) - 1, -(1 << 63)])  # the ring's ends
    found = online.truncate_locally(first, f, lead=True) + online.truncate_locally(X - first, f, lead=False)
    off = (found - (X >> f)) << f >> f  # modulo 2^(64 - f), signed
    assert int(off.min()) >= -1 and int(off.max()) <= 1
    if magnitude == 63:
        assert int((found - (X >> f) != off).sum()) > COUNT / 10  # modulo 2^64 they are wrong


@pytest.mark.parametrize("bits", [54, 57])
def test_local_truncation_fails_as_often_as_the_ledger_says(bits: int) -> None:
    """Each party by itself: wrong by 2^(64 - f) with probability |X| / 2^64, which is why it has a budget."""
    generator, f = torch.Generator().manual_seed(bits), 20
    X = torch.randint(1 << (bits - 1), 1 << bits, (LOCAL,), generator=generator)
    first = uniform(LOCAL, generator)
    found = online.truncate_locally(first, f, lead=True) + online.truncate_locally(X - first, f, lead=False)
    failures = int(((found - (X >> f)).abs() > 1).sum())
    expected = float(X.double().sum()) * 2.0**-64
    assert abs(failures - expected) < 6 * math.sqrt(expected)
    rms = float(X.double().square().mean().sqrt())
    assert failures < LOCAL * rms * 2.0**-63  # what the compiler counts for it (see Scaler)
    assert Ledger([("a", LOCAL, 1e-7), ("b", LOCAL, 2e-7)]).probability == pytest.approx(3e-7)
