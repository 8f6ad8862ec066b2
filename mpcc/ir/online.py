"""The online level: what one party computes on ring shares, opened values and correlated randomness.

Every kernel is affine in the shares, so that running it once as the leading party on *totals* instead of shares gives
the plain result: this is the fixed-point emulation. `lead` is true for party 0, which adds public terms. A correlation
that is None stands for zero (emulation with zero masks).

Notation: a value X (an integer modulo 2^64) is opened as c = X + r modulo 2^k: k is the `ring` of the opening, 64 or as
many low bits as its uses need. Truncated by f bits it is
    u = C - rho + w M,  C = ((c + 2^(k-2) + 2^(f-1)) mod 2^(k-1)) >> f) - 2^(k-2-f),  rho = (r mod 2^(k-1)) >> f,
    M = 2^(k-1-f),  w = t xor b,  t and b the bits k - 1 of c + 2^(k-2) + 2^(f-1) and of r,
which is round(X / 2^f) up to one unit for |X| < 2^(k-2) - 2^f, again modulo 2^64; with f = 0, u = X = c - r modulo 2^k. As w is 0
or 1, a polynomial is P(u) = P(C - rho) + w (P(C - rho + M) - P(C - rho)). What is above bit k of c is arbitrary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import comb
from typing import Any

import torch
from torch import Tensor

from .comparison_circuit import AND_PLANES, AND_ROWS, AND_TERMS, CHUNKS, WINDOW_BITS
from .public_mask import mask_of
from .ring import RING_BITS, Bilinear, bilinear, pack, unpack, words, wrap

Share = Tensor | None

# ---- communication -------------------------------------------------------------------------------------------------


def open_(masked: Tensor, ring: int = RING_BITS) -> Tensor:
    """The sum of both parties' shares modulo 2^ring: communication, ring bits per element, each way."""
    return masked


def open_bits(masked: Tensor) -> Tensor:
    """The xor of both parties' packed shares: communication, one bit each way."""
    return masked


def open_weight(masked: Tensor) -> Tensor:
    """A masked weight, from the server to the client, at set-up: 8 B per element, one way."""
    return masked


def reveal(share: Tensor) -> Tensor:
    """The output, opened to the client: 8 B per element, one way."""
    return share


def flooded(share: Tensor, noise: Share, grid: int) -> Tensor:
    """The share of an output that may be revealed: X + noise, rounded to a multiple of 2^grid.

    Each party rounds its own share, so the sum is off by at most 2^grid; modulo 2^64 that never wraps, as nothing is divided.
    """
    total = share if noise is None else share + noise
    return total if grid == 0 else (total + (1 << (grid - 1))) & -(1 << grid)


# ---- linear --------------------------------------------------------------------------------------------------------


def mask_with(share: Tensor, mask: Share) -> Tensor:
    """What is sent: the share of X + r."""
    return share if mask is None else share + mask


def mask_bits(share: Tensor, mask: Share) -> Tensor:
    return share if mask is None else share ^ mask


def times(x: Tensor, factor: int) -> Tensor:
    """The share times a public integer."""
    return x * factor


def combine(shares: Sequence[Tensor], factors: Sequence[int]) -> Tensor:
    """The sum of shares times public integers, broadcast."""
    total = shares[0] if factors[0] == 1 else shares[0] * factors[0]
    for share, factor in zip(shares[1:], factors[1:], strict=True):
        total = torch.add(total, share) if factor == 1 else torch.add(total, share, alpha=factor)
    return total


def add_public(x: Tensor, value: int, *, lead: bool = True) -> Tensor:
    """The share of X + value."""
    return x + value if lead else x


def moved(c: Tensor, value: int) -> Tensor:
    """The opening of X + value from that of X: both parties add."""
    return c + value


def add_weight(x: Tensor, weight: Share, shape: Sequence[int]) -> Tensor:
    """The share of X + W; only the server, whose W it is, holds it (None elsewhere)."""
    return x.expand(shape) if weight is None else x + weight


def weight_share(weight: Share, shape: Sequence[int]) -> Tensor:
    """W as a share: the server's is W, the client's 0."""
    return torch.zeros(shape, dtype=torch.int64) if weight is None else weight


def total(x: Tensor, dims: Sequence[int], keepdim: bool) -> Tensor:
    return x.sum(dim=tuple(dims), keepdim=keepdim)


def gather(x: Tensor, indices: Sequence[Any]) -> Tensor:
    """x[indices] with constant index lists (None keeps a dimension whole)."""
    return x[tuple(slice(None) if i is None else torch.tensor(i) for i in indices)]


def apply_mask(x: Tensor, shape: Sequence[int], bits: str) -> Tensor:
    """x where a public mask is 1, else 0: parties drop the same positions of their shares."""
    return x * mask_of(tuple(shape), bits).to(device=x.device, dtype=x.dtype)


def scale_rows(x: Tensor, shape: Sequence[int], weights: Sequence[int]) -> Tensor:
    """x times public integers of `shape`, broadcast."""
    return x * torch.tensor(tuple(weights), dtype=x.dtype, device=x.device).reshape(tuple(shape))


def truncate_locally(x: Tensor, bits: int, *, lead: bool = True) -> Tensor:
    """X / 2^bits on the shares alone: off by 2^(64-bits) with probability |X| / 2^64, else by at most one unit.

    Each party rounds its share to the nearest, which is the nearest to X where the other's share is zero.
    """
    half = 1 << (bits - 1)
    return (x + half) >> bits if lead else -((half - x) >> bits)


# ---- products of opened values -------------------------------------------------------------------------------------


def product(
    kind: str, cx: Tensor, cy: Tensor, rx: Share, ry: Share, rxy: Share, attributes: Sequence[Any] = (), *, lead: bool = True,
    by: Bilinear = bilinear,
) -> Tensor:  # fmt: skip
    """The share of bilinear(X, Y) from c = X + r: cx cy - cx ry - rx cy + rx ry. No truncation, exact modulo 2^64. `by`, here
    and below: what computes `ring.bilinear` where the party is."""
    if rx is None or ry is None:
        return by(kind, cx, cy, attributes)
    result = by(kind, cx, cy - ry if lead else -ry, attributes)
    result -= by(kind, rx, cy, attributes)
    return result if rxy is None else result.add_(rxy)


def weight_product(
    kind: str, c: Tensor, weight: Share, rw: Share, attributes: Sequence[Any] = (), *, by: Bilinear = bilinear
) -> Tensor:
    """The share of bilinear(X, W): c W at the server, minus the share of r W. Exact modulo 2^64."""
    if weight is None:
        assert rw is not None
        return -rw
    result = by(kind, c, weight, attributes)
    return result if rw is None else result - rw


def public_product(kind: str, x: Share, weight: Tensor, attributes: Sequence[Any] = (), *, by: Bilinear = bilinear) -> Share:
    """The share of bilinear(X, W) of a W that everybody knows, from that of X: local. Exact modulo 2^64.

    Of the share of a mask r it is that of r W, which `weight_product` takes where X is opened anyway.
    """
    return None if x is None else by(kind, x, weight, attributes)


def mask_weight_product(
    kind: str, r: Share, opened: Tensor, rb: Share, attributes: Sequence[Any] = (), *, by: Bilinear = bilinear
) -> Share:
    """The share of r W from the opened F = W + B: r F - r B. Done before the input arrives."""
    if r is None:
        return None
    result = by(kind, r, opened, attributes)
    return result if rb is None else result - rb


def public_part(c: Tensor, f: int, ring: int = RING_BITS) -> tuple[Tensor, Tensor]:
    """(C, t) of an opened value."""
    if f == 0:
        return c, torch.zeros((), dtype=torch.int64)
    shifted = c + ((1 << (ring - 2)) + (1 << (f - 1)))
    return ((shifted & ((1 << (ring - 1)) - 1)) >> f) - (1 << (ring - 2 - f)), shifted >> (ring - 1) & 1


def modulus(f: int, ring: int = RING_BITS) -> int:
    """M: what a truncated value is short of where its opening went over the ring's half."""
    return 1 << (ring - 1 - f)


def whole(c: Tensor, f: int, ring: int = RING_BITS) -> Tensor:
    """u = C + t M: the truncated value where the mask is zero, in fewer steps than its parts."""
    if f == 0:
        return c
    shifted = c + ((1 << (ring - 2)) + (1 << (f - 1)))
    return ((shifted >> f) & ((1 << (ring - f)) - 1)) - (1 << (ring - 2 - f))


def truncated(c: Tensor, f: int, rho: Share, b: Share, ring: int = RING_BITS, *, lead: bool = True) -> Tensor:
    """The share of u = round(X / 2^f): linear in the dealer's rho and b."""
    if rho is None or b is None:
        return whole(c, f, ring)
    C, t = public_part(c, f, ring)
    M = modulus(f, ring)
    w = (1 - 2 * t) * b
    result = w.mul_(M) - rho
    return result.add_(C).add_(t * M) if lead else result


def multilinear(
    openings: Sequence[Tensor],
    shifts: Sequence[int],
    terms: Sequence[Sequence[int]],
    shares: Sequence[Share],
    rings: Sequence[int] | None = None,
    *,
    lead: bool = True,
) -> Tensor:
    """The share of the product of truncated values u_i = P_i - rho_i + Q_i b_i, broadcast; P = C + t M, Q = (1 - 2t) M.

    `shares[k]` shares the product over i of: 1, rho_i or b_i as terms[k][i] is 0, 1 or 2.
    """
    cuts = list(zip(shifts, rings or [RING_BITS] * len(shifts), strict=True))
    if shares[0] is None:
        first, *others = (whole(c, *cut) for c, cut in zip(openings, cuts, strict=True))
        return math.prod(others, start=first)
    parts = [public_part(c, f, ring) for c, (f, ring) in zip(openings, cuts, strict=True)]
    P = [C + t * modulus(f, ring) if f else C for (C, t), (f, ring) in zip(parts, cuts, strict=True)]
    Q = [(1 - 2 * t) * modulus(f, ring) if f else None for (_, t), (f, ring) in zip(parts, cuts, strict=True)]
    result: Tensor | None = None
    if lead:
        result = math.prod(P[1:], start=P[0])
    grouped: dict[tuple[int, ...], Tensor] = {}  # by which factors stay public: fewer products of full-size tensors
    for term, share in zip(terms, shares, strict=True):
        assert share is not None
        sign = -1 if sum(c == 1 for c in term) % 2 else 1
        for c, q in zip(term, Q, strict=True):
            if c == 2:
                assert q is not None
                share = share * q
        public = tuple(i for i, c in enumerate(term) if c == 0)
        share = share if sign == 1 else -share
        grouped[public] = grouped[public] + share if public in grouped else share
    for public, value in grouped.items():
        for i in public:
            value = value * P[i]
        result = value if result is None else result + value
    assert result is not None
    return result


def power_sum(
    c: Tensor,
    f: int,
    coefficients: Sequence[int],
    rho: Sequence[Share],
    b_rho: Sequence[Share],
    ring: int = RING_BITS,
    *,
    lead: bool = True,
) -> Tensor:
    """The share of sum_k coefficients[k] u^k (integers modulo 2^64) from one opening.

    `rho[k]` shares rho^k (k = 1..d), `b_rho[k]` shares b rho^k (k = 0..d-1; unused when f = 0).
    """
    if rho[1] is None:
        return _horner(coefficients, whole(c, f, ring))
    C, t = public_part(c, f, ring)
    degree = len(coefficients) - 1
    M = modulus(f, ring)
    # P(C - rho) = sum_j (-1)^j rho^j sum_k binomial(k, j) a_k C^(k-j)
    result = _horner(coefficients, C) if lead else torch.zeros_like(C)
    for j in range(1, degree + 1):
        share = rho[j]
        assert share is not None
        inner = _horner([(-1) ** j * comb(k, j) * coefficients[k] for k in range(j, degree + 1)], C)
        result += inner * share
    if f:
        step = [
            sum(comb(k, j) * M ** (k - j) * coefficients[k] for k in range(j + 1, degree + 1)) for j in range(degree)
        ]  # P(y + M) - P(y)
        first = b_rho[0]
        assert first is not None
        plain = _horner(step, C) if lead else torch.zeros_like(C)
        flipped = _horner(step, C) * first
        for j in range(1, degree):
            share, b_share = rho[j], b_rho[j]
            assert share is not None and b_share is not None
            inner = _horner([(-1) ** j * comb(k, j) * step[k] for k in range(j, degree)], C)
            plain = plain + inner * share
            flipped = flipped + inner * b_share
        result += t * plain + (1 - 2 * t) * flipped
    return result


def _horner(coefficients: Sequence[int], x: Tensor) -> Tensor:
    """sum_k coefficients[k] x^k modulo 2^64."""
    result = torch.full_like(x, wrap(coefficients[-1]))
    for a in reversed(coefficients[:-1]):
        result = result.mul_(x).add_(wrap(a))
    return result


# ---- comparison ----------------------------------------------------------------------------------------------------


def leaves(c: Tensor, threshold: int, low: int, tables: Tensor, sign: Tensor, *, lead: bool = True) -> Tensor:
    """Packed boolean shares [AND_PLANES + 1, words(n)] for the bit X < threshold, from the dealer's tables over r.

    `sign` is the packed bit of r above the window. Bits low .. low + 16 of e - r, e = c - threshold, decide; the last
    plane is the part that is linear.
    """
    e = (c.reshape(-1) - threshold) >> low
    G, P = [], []
    for chunk in range(CHUNKS):
        j = e >> (4 * chunk) & 15
        word = tables[chunk // 2] >> (j + 32 * (chunk % 2))
        G.append(word & 1)
        P.append(word >> 16 & 1)
    linear = G[3] ^ (e >> WINDOW_BITS & 1) if lead else G[3]
    result = pack(torch.stack([P[3], G[2], P[2], G[1], P[1], G[0], linear]))
    result[AND_PLANES] ^= sign
    return result


def planes(leaf: Tensor) -> Tensor:
    """The planes that enter the AND round."""
    return leaf[:AND_PLANES]


def and_planes(e: Tensor, leaf: Tensor, a: Share, products: Share, *, lead: bool = True) -> Tensor:
    """The packed boolean share of the bit, from the opened planes e = planes ^ a and the products of the masks a.

    A term is the sum over subsets of its planes: the masks of these, times e of the others. Both are tables of 2^n rows.
    """
    result = leaf[AND_PLANES].clone()
    whole = torch.full_like(e[:1], -1)
    shares = None if a is None or products is None else torch.cat([whole if lead else torch.zeros_like(whole), a, products])
    for term, rows in zip(AND_TERMS, AND_ROWS, strict=True):
        public = whole
        for t in term:
            public = torch.cat([public & e[t], public])
        if shares is None:
            if lead:
                result ^= public[0]
            continue
        parts = shares[rows] & public
        while len(parts) > 1:
            half = len(parts) // 2
            parts = parts[:half] ^ parts[half:]
        result ^= parts[0]
    return result


def bit_number(opened: Tensor, beta: Share, shape: Sequence[int], *, lead: bool = True) -> Tensor:
    """The arithmetic share of a bit opened as bit ^ beta."""
    flag = _flag(opened, shape)
    if beta is None:
        return flag
    result = (1 - 2 * flag) * beta.reshape(shape)
    return result + flag if lead else result


def select(
    opened: Tensor,
    beta: Share,
    c: Tensor,
    f: int,
    rho: Share,
    b: Share,
    beta_rho: Share,
    beta_b: Share,
    ring: int = RING_BITS,
    *,
    lead: bool = True,
) -> Tensor:
    """The share of bit * u, u the opened value truncated by f bits: flag u + (1 - 2 flag) beta u."""
    flag = _flag(opened, c.shape)
    u = truncated(c, f, rho, b, ring, lead=lead) if f else (c - rho if lead else -rho) if rho is not None else c
    if beta is None or beta_rho is None:
        return flag * u
    C, t = public_part(c, f, ring)
    beta_u = beta.reshape(c.shape) * C - beta_rho
    if f:
        assert beta_b is not None
        beta_u += ((1 - 2 * t) * beta_b + t * beta.reshape(c.shape)) * modulus(f, ring)
    return flag * u + (1 - 2 * flag) * beta_u


def _flag(opened: Tensor, shape: Sequence[int]) -> Tensor:
    n = math.prod(shape)
    assert opened.shape[-1] == words(n)
    return unpack(opened, n).reshape(tuple(shape))


COMMUNICATION = frozenset({open_, open_bits, open_weight, reveal})
