"""Fixed point: which scale a value gets, how values meet at one scale, and how a scale is brought down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from torch import fx

from mpcc.errors import RangeError
from mpcc.ir import online
from mpcc.ir.kinds import printable
from mpcc.ir.nn import shape_of, size_of

from .builder import Builder
from .narrowing import Rings
from .openings import Openings
from .values import LEAST_SIZE, LIMIT, Secret

MOST_SHIFT = 60
"""A truncation through an opening needs 3 bits of the ring above its shift (see `widths`): 61 is the limit, and one to spare."""
MOST_EXTRA_BITS = 12
"""By how much an operand smaller than 1 gets more fraction bits. With 14 + 12 each, a product of two has 10 of 62 bits left for
its magnitude, more than anything that was made of values below 2^-12 needs."""
ALIGNED_BITS = 18
"""Precision of factors that align scales whose ratio is not an integer: 4 bits finer than the 14 of an operand, so that the
error is a sixteenth of an operand's last bit at size 1."""
FEW = 8
"""By how many values one is shared before it is brought to their scale: opened in some 40 bits, for the 15 or more of each."""
LEAST_ALIGNED_BITS = 11
"""The same where there is no room for more: about the relative error of a weight at its fewest bits (2^-10.8, see
`least_weight_bits`), which the result has to bear anyway."""
GIVEN_UP = LEAST_ALIGNED_BITS + 3
"""Bits that the finest summand loses where scales cannot be aligned otherwise: factors of LEAST_ALIGNED_BITS need that many bits
above the finest scale, which may be at the ring's limit, and 3 bits are for the sum's own growth."""


WORTH_CUTTING = 2
"""Bits below which a cut for good is not made: it takes a pass over the value, and adds a rounding."""
PROBABILITY_DIGITS = 2


@dataclass
class Ledger:
    """Where truncation may fail, and how often: (layer, values, probability per inference)."""

    entries: list[tuple[str, int, float]] = field(default_factory=list)
    cuts: dict[fx.Node, tuple[str, int, float]] = field(default_factory=dict)
    """Of each entry, the cut that it is about."""

    def without(self, exact: Iterable[fx.Node]) -> Ledger:
        """The rest, where these cuts turned out to be always right."""
        gone = set(exact)
        kept = {cut: entry for cut, entry in self.cuts.items() if cut not in gone}
        return Ledger(list(kept.values()), kept)

    def public(self) -> tuple[tuple[str, int, float], ...]:
        """One entry for all of them, to two digits: what each layer's values measure on private inputs is nobody's business.

        Rounding may take 5 % of a bound that has a factor of 2 for safety (`Scaler._failure`).
        """
        if not self.entries:
            return ()
        total = float(f"{self.probability:.{PROBABILITY_DIGITS - 1}e}")
        return (("local truncations", sum(values for _, values, _ in self.entries), total),)

    @property
    def probability(self) -> float:
        return sum(p for _, _, p in self.entries)


@dataclass(frozen=True)
class Scaler:
    """Scale arithmetic over one program."""

    b: Builder
    openings: Openings
    ledger: Ledger
    fraction_bits: int
    local_budget: float
    where: list[str]
    least_bits: float
    rings: Rings = field(default_factory=Rings)

    def precision(self, x: Secret) -> int:
        """Fraction bits of an element-wise operand: more where values are small."""
        return self.fraction_bits + max(0, min(MOST_EXTRA_BITS, math.ceil(-math.log2(x.rms))))

    def shift_to(self, x: Secret, bits: float) -> int:
        """How many bits to drop so that about `bits` fraction bits are left (0 when there are no more).

        At least one where x is not right modulo 2^64, so that what is made of it is.
        """
        return max(1 if self.rings.missing(x.node) else 0, min(MOST_SHIFT, round(x.bits - bits)))

    def reduce(self, x: Secret, bits: float, *, opened_anyway: bool) -> Secret:
        """x at a scale of at most 2^bits."""
        drop = math.ceil(x.bits - bits - 1e-9)
        if drop <= 0:
            return x
        self._check(x)
        if drop > MOST_SHIFT:  # nothing of the value is left at that scale
            return Secret(self.b.on(online.times, x.node, 0), x.scale / 2**drop, x.bound, x.rms)
        failure = self._failure(x)
        if opened_anyway or failure > self.local_budget:
            return self.truncated(x, drop)
        return self._cut(x, drop, failure)

    def _cut(self, x: Secret, drop: int, failure: float) -> Secret:
        """x >> drop by each party alone, noted as a cut that may fail."""
        node = self.b.on(online.truncate_locally, x.node, drop)
        if node not in self.ledger.cuts and node not in self.rings.exact:
            self.ledger.cuts[node] = (self.where[0], size_of(x.node), failure)
            self.ledger.entries.append(self.ledger.cuts[node])
        return Secret(node, x.scale / 2**drop, x.bound, x.rms)

    def cuttable_bits(self, size: int, rms: float) -> float:
        """Fraction bits up to which each party may cut its share of so many values alone."""
        return math.log2(self.local_budget) + 63 - math.log2(size * rms) if self.local_budget > 0 else -math.inf

    def narrow(self, x: Secret, bits: float, name: str) -> Secret:
        """x, the value of that node of the mpc graph, at 2^bits or a bit more.

        Where a cut of shares fails seldom enough, it is taken for right modulo 2^64; elsewhere x is right modulo a bit less for
        each that goes. Where all that is needed of it lies below, the former turns out to be right always (`widths.excess`).
        """
        drop = math.floor(x.bits - bits + 1e-9)
        if drop < WORTH_CUTTING:
            return x
        failure = self._failure(x)
        if failure <= self.local_budget and not self.rings.missing(x.node):
            return self._cut(x, drop, failure)
        node = self.b.on(online.truncate_locally, x.node, drop)
        self.rings.exact[node] = name
        self.rings.known.pop(node, None)
        return Secret(node, x.scale / 2**drop, x.bound, x.rms)

    def truncated(self, x: Secret, drop: int) -> Secret:
        """x >> drop through its opening: never off by more than one unit."""
        opening = self.openings.open(x.node, x.magnitude)
        rho, b = self.openings.high(opening, drop), self.openings.top(opening)
        node = self.b.on(online.truncated, opening.c, opening.left(drop), rho, b, opening.ring)
        return Secret(node, x.scale / 2**drop, x.bound, x.rms)

    def _failure(self, x: Secret) -> float:
        """Probability that a local truncation fails at some element: n E|X| / 2^64, E|X| <= rms, and twice that for safety.

        Each party cuts its own share, which is wrong if the random share is so close to the ring's end that adding X wraps:
        |X| of 2^64 cases. The factor of 2 is for inputs whose values are larger than those of calibration.
        """
        return size_of(x.node) * (x.rms * abs(x.scale) + 1) * 2.0**-63

    def _check(self, x: Secret) -> None:
        if x.bits + math.log2(x.bound) > LIMIT + 1:  # the bound is twice what calibration saw
            raise RangeError(
                f"a value of magnitude {x.bound:.3g} at {x.bits:.0f} fraction bits leaves the ring of 64 bits",
                where=self.where[0],
                hint="Calibrate with representative inputs, or lower `fraction_bits`.",
            )

    def align(self, values: Sequence[Secret], cap: float) -> tuple[list[int], float]:
        """Integer factors that bring the values to one scale, and that scale.

        Exact where the ratios are integers; else the relative error is below 2^-ALIGNED_BITS, or 2^-LEAST_ALIGNED_BITS where
        `cap` leaves no room. A ratio r is rounded with a relative error of at most 1 / 2r, and no ratio is below 2^extra:
        ALIGNED_BITS extra bits are always enough.
        """
        top = max(values, key=lambda v: abs(v.scale))
        for extra in range(ALIGNED_BITS + 1):
            scale = top.scale * 2**extra
            ratios = [scale / v.scale for v in values]
            factors = [round(r) for r in ratios]
            worst = max(abs(f / r - 1) for f, r in zip(factors, ratios, strict=True))
            if worst < 2.0**-ALIGNED_BITS:
                return factors, scale
            if math.log2(abs(scale)) + 1 > cap:
                break
        if worst < 2.0**-LEAST_ALIGNED_BITS:
            return factors, scale
        raise RangeError("values of very different scales meet and there is no room to align them", where=self.where[0])

    def combine(
        self, values: Sequence[Secret], bound: float, rms: float, cap: float, shape: Sequence[int], sum_bits: float = math.inf
    ) -> Secret:
        """The sum of values, broadcast to `shape`; if it had to be made above its cap, cut. `sum_bits`: see `_rescaled`."""
        values, factors, scale, above = self.aligned(self._rescaled(values, sum_bits), bound, cap)
        node = self.b.on(online.combine, tuple(v.node for v in values), tuple(factors))
        if shape_of(node) != tuple(shape):
            raise AssertionError("broadcast")
        made = Secret(node, scale, bound, rms)
        return self.reduce(made, max(cap, min(v.bits for v in values)), opened_anyway=False) if above else made

    def aligned(
        self, values: Sequence[Secret], bound: float, cap: float
    ) -> tuple[Sequence[Secret], list[int], float, bool]:
        """The values, the factors that align them, the scale of what they make, and whether it is above its cap.

        Where there is no room below the cap to bring them to one scale, there mostly is above it: cutting a value first
        would cost the bits of one that may have few. Last, the finest value gives up some.
        """
        try:
            return values, *self.align(values, cap), False
        except RangeError:
            pass
        ring = LIMIT - math.log2(bound)
        try:
            return values, *self.align(values, ring), True
        except RangeError:
            finest = max(values, key=lambda v: abs(v.scale))
            values = [self.reduce(v, v.bits - GIVEN_UP, opened_anyway=False) if v is finest else v for v in values]
            return values, *self.align(values, ring), True

    def _rescaled(self, values: Sequence[Secret], sum_bits: float) -> Sequence[Secret]:
        """Values that are the same for many others (a mean of each row), brought to the scale of these where no integer does it.

        Only where a sum of which the result is part has no more than `sum_bits`: the others would be made finer instead, by up
        to ALIGNED_BITS, and all be cut again, through an opening of their own.
        """
        sizes = [size_of(v.node) for v in values]
        many = [v for v, size in zip(values, sizes, strict=True) if size * FEW > max(sizes)]
        finest = max(many, key=lambda v: v.bits)
        try:
            _, scale = self.align(values, LIMIT)
        except RangeError:
            return values
        if math.log2(abs(scale)) <= sum_bits or self._failure(replace(finest, scale=scale)) <= self.local_budget:
            return values
        return [v if v in many else self._at_scale(v, abs(finest.scale)) for v in values]

    def _at_scale(self, x: Secret, scale: float) -> Secret:
        """x as near to that scale as ALIGNED_BITS allow."""
        ratio = scale / abs(x.scale)
        drop = max(1, ALIGNED_BITS - math.floor(math.log2(ratio)))
        factor = round(ratio * 2.0**drop)
        fits = drop <= MOST_SHIFT and x.magnitude + math.log2(factor) <= LIMIT
        if not fits or abs(round(ratio) / ratio - 1) < 2.0**-ALIGNED_BITS:
            return x
        finer = Secret(self.b.on(online.times, x.node, factor), x.scale * factor, x.bound, x.rms)
        return self.reduce(finer, finer.bits - drop, opened_anyway=self.rings.missing(finer.node) > 0)

    def signed(self, x: Secret, factor: float) -> Secret:
        """factor * x: only the scale changes."""
        return Secret(x.node, x.scale / factor, x.bound * abs(factor), max(x.rms * abs(factor), LEAST_SIZE))


def encode(value: float, scale: float, where: str) -> int:
    """A public number as an integer at a scale."""
    integer = round(value * scale)
    if abs(integer) >= 1 << LIMIT:
        raise RangeError(f"the constant {value:g} does not fit at {math.log2(abs(scale)):.0f} fraction bits", where=where)
    return integer


def describe(node: fx.Node) -> str:
    """The user's name for where a node comes from."""
    return printable(str(node.meta.get("site") or node.meta.get("layer") or node.name))
