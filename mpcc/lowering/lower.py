"""Lowering of an mpc graph to an online program, one primitive at a time.

Needs `meta["range"]` (calibrated low, high, rms) on every node, and some calls' inputs: see `mpcc.calibration.ranges`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from mpcc.errors import UnsupportedOperator
from mpcc.ir import mpc, online
from mpcc.ir.info import End, Origin, annotate, info_of
from mpcc.ir.kinds import printable
from mpcc.ir.nn import WHOLE_VIEWS, shape_of, size_of
from mpcc.ir.site_ends import site_ends
from mpcc.program.program import Program

from . import comparisons, curves, gathers, products, widths
from .assemble import assemble
from .builder import Builder, origin_of
from .constants import constants_of, opened_anyway
from .max_scale_bits import (
    SEEN_MARGIN,
    bound_of,
    early_bits,
    early_operand,
    fitting_bits,
    max_scale_bits,
    opened_elementwise,
    result_bits,
    ring_bits,
    rms_of,
    used_untruncated,
)
from .narrowing import Tried, narrowed, operand_bits
from .openings import Openings, Width
from .products import LEAST_OPERAND
from .scales import Ledger, Scaler, describe, encode
from .settings import Settings
from .values import Bit, Constant, Secret, Value

aten = torch.ops.aten

RANGE_PAD = 0.15
"""How far beyond the calibrated range, as a part of its width, a polynomial's variable keeps its precision on either side. It
decides only where the variable's bits are spent: 30 % more width costs log2(1.3) = 0.4 of them, and values further out stay
right, since the ring has room for `margin` times the extremes."""


class Lowering:
    """The state of one lowering: what each mpc node has become."""

    def __init__(
        self,
        module: fx.GraphModule,
        settings: Settings,
        part: float,
        tried: Tried,
        opened: Mapping[int, Width] | None = None,
    ) -> None:
        """`part`: of the failure budget, for one local truncation. `opened`: what is opened of each value; nothing is known the
        first time."""
        self.source, self.settings, self.tried = module, settings, tried
        self.b = Builder()
        self.where, self.ledger = [""], Ledger()
        self.openings = Openings(self.b, opened)
        local = settings.failure_budget * part
        self.s = Scaler(self.b, self.openings, self.ledger, settings.fraction_bits, local, self.where, settings.least_bits)
        self.env: dict[fx.Node, Value] = {}
        self.max_bits: dict[fx.Node, float] = {}
        self.narrow: dict[fx.Node, float] = {}
        self.failed: dict[str, int] = {}
        """Nodes whose values were cut for good though something needs more of their bits: how many more."""
        self.constants: frozenset[fx.Node] = frozenset()
        self.opened: frozenset[fx.Node] = frozenset()
        """Values that are opened whatever is public."""

    def run(self) -> Program:
        constants = constants_of(self.source)
        sizes = {n: c.rms for n, c in constants.items()}
        self.narrow = narrowed(self.source.graph, constants, self.tried.kept)
        given = self.settings
        self.max_bits = max_scale_bits(self.source.graph, sizes, given.margin, self.s.local_budget, self.narrow, given.least_bits)
        self.env.update(constants)
        self.constants, self.opened = frozenset(constants), opened_anyway(self.source.graph, constants)
        outputs: list[tuple[str, Secret]] = []
        ends = {end.node: printable(site) for site, end in site_ends(self.source.graph).items()}
        for node in self.source.graph.nodes:
            if node.op == "output":
                outputs = self._outputs(node)
            elif node not in self.env:
                self.where[0], self.b.origin = describe(node), origin_of(node)
                self.env[node] = value = self._placeholder(node) if node.op == "placeholder" else self._lower(node)
                if node in ends and isinstance(value, Secret) and info_of(value.node).end is None:
                    annotate(value.node, end=End(ends[node], value.scale))  # for those who look into the emulation
        made = assemble(self.b, outputs, self.ledger)
        needed = widths.needed_bits(made.online.graph, self.openings.opened_magnitudes)
        self.failed = {name: n for cut, name in self.s.rings.exact.items() if (n := widths.excess(cut, needed)) > 0}
        sure = [cut for cut in self.ledger.cuts if widths.excess(cut, needed) <= 0]
        return replace(made, failures=self.ledger.without(sure).public())

    def _placeholder(self, node: fx.Node) -> Secret:
        shape = tuple(node.meta["val"].shape)
        scale = 2.0**self.settings.input_bits
        share = self.b.input(str(node.target), shape, scale)
        return Secret(share, scale, *self._out(node))

    def _outputs(self, node: fx.Node) -> list[tuple[str, Secret]]:
        values = node.args[0] if isinstance(node.args[0], (tuple, list)) else (node.args[0],)
        outputs = []
        for position, source in enumerate(values):
            self.where[0], self.b.origin = "output", Origin("output", primitive="reveal")
            outputs.append((f"output_{position}", self._secret(self.env[source])))  # the server's, if it is a constant
        return outputs

    def _out(self, node: fx.Node) -> tuple[float, float]:
        return bound_of(node, self.settings.margin), rms_of(node)

    def _secret(self, value: Value) -> Secret:
        if isinstance(value, Bit):
            return comparisons.number(self.s, value)
        if isinstance(value, Constant):
            scale = 2.0**self.settings.input_bits
            shape = tuple(value.value.shape)
            node = self.b.on(online.weight_share, self.b.weight(value.name, value.value, scale), shape)
            return Secret(node, scale, float(value.value.abs().max()) + 1e-6, value.rms)
        return value

    def _value(self, node: Any) -> Value:
        return self.env[node]

    def _lower(self, node: fx.Node) -> Value:
        if node.target in mpc.VIEWS:
            return self._view(node)
        value = RULES[node.target](self, node)
        if isinstance(value, Secret) and node.target not in (mpc.scale, mpc.sum):
            value = self._capped(node, value)
        if isinstance(value, Secret) and shape_of(value.node) != tuple(node.meta["val"].shape):
            raise AssertionError(f"{node.name}: {shape_of(value.node)} for {tuple(node.meta['val'].shape)}")
        return value

    def _capped(self, node: fx.Node, value: Secret) -> Secret:
        """The value at a scale that the products which use it whole can take. Sums and element-wise uses cut for themselves."""
        most = fitting_bits(node, SEEN_MARGIN)  # what calibration saw must fit; the margin is for choosing scales
        cap = self.max_bits[node] if used_untruncated(node) else most
        if value.bits > cap + 1e-9:
            value = self.s.reduce(value, math.floor(cap), opened_anyway=False)
        return self.s.narrow(value, self.narrow[node], node.name) if node in self.narrow else value

    # -- views --

    def _view(self, node: fx.Node) -> Value:
        if node.target is aten.cat.default:
            return self._cat(node)
        source = node.args[0]
        value = self._value(source)
        if isinstance(value, Bit):
            value = self._secret(value)
        assert isinstance(value, Secret)
        rest = tuple(node.args[1:])
        target: Callable[..., Any] = node.target  # type: ignore[assignment]
        if target is aten.index.Tensor:
            indices = [None if i is None else self._constant(i).value.tolist() for i in rest[0]]  # type: ignore[union-attr]
            target, rest = gathers.indexed(indices)
        if target is mpc.gather:
            target, rest = gathers.taken(*rest)
        if target is mpc.apply_mask:
            target = online.apply_mask
        if target is mpc.scale_rows:
            target, value = online.scale_rows, self._fitting(source, value, ring_bits(node, SEEN_MARGIN))
        if target is aten.constant_pad_nd.default:
            rest = (rest[0], 0)  # other numbers were subtracted before, and are added after
        rest = (*rest, *(node.kwargs[k] for k in node.kwargs))
        made = self.b.on(target, value.node, *rest)
        if target in WHOLE_VIEWS:  # the opening of what it shows serves
            self.openings.viewed(made, value.node, target, rest)
        return Secret(made, value.scale, *self._out(node))

    def _cat(self, node: fx.Node) -> Secret:
        parts = [self._value(n) for n in node.args[0]]  # type: ignore[union-attr]
        secrets = [p for p in parts if isinstance(p, Secret)]
        fitted, factors, scale, _ = self.s.aligned(secrets, self._out(node)[0], self.max_bits[node])
        aligned = iter(
            s.node if f == 1 else self.b.on(online.times, s.node, f) for s, f in zip(fitted, factors, strict=True)
        )
        shares = []
        for part in parts:
            if isinstance(part, Constant):
                weight = self.b.weight(part.name, part.value, scale)
                shares.append(self.b.on(online.weight_share, weight, tuple(part.value.shape)))
            else:
                shares.append(next(aligned))
        return Secret(self.b.on(aten.cat.default, tuple(shares), *node.args[1:]), scale, *self._out(node))

    def _constant(self, node: Any) -> Constant:
        value = self._value(node)
        if not isinstance(value, Constant):
            raise UnsupportedOperator("indices that depend on the input have no secure form", where=self.where[0])
        return value

    # -- primitives --

    def add(self, node: fx.Node, sign: float = 1.0) -> Secret:
        x, y = self._value(node.args[0]), node.args[1]
        out, shape = self._out(node), tuple(node.meta["val"].shape)
        if not isinstance(y, fx.Node):
            x = self._with_headroom(node, node.args[0], self._secret(x))
            value = encode(sign * float(y), x.scale, self.where[0])  # type: ignore[arg-type]
            return Secret(self.b.on(online.add_public, x.node, value) if value else x.node, x.scale, *out)
        other = self._value(y)
        if isinstance(x, Constant):
            right = self._with_headroom(node, y, self.s.signed(self._secret(other), sign))
            return products.with_weight(self.s, right, x, out, shape)
        left = self._secret(x)
        if isinstance(other, Constant):
            signed = other if sign > 0 else Constant(f"{other.name}.negated", -other.value)
            return products.with_weight(self.s, self._with_headroom(node, node.args[0], left), signed, out, shape)
        right, cap = self.s.signed(self._secret(other), sign), self.max_bits[node]
        summands = [self._lifted(n, self._fitting(n, x, cap)) for n, x in ((node.args[0], left), (y, right))]
        return self.s.combine(summands, *out, cap, shape, self._sum_bits(node))

    def _sum_bits(self, node: fx.Node) -> float:
        """Fraction bits of the sums that a value is part of."""
        return min((self.max_bits[user] for user in node.users if user.target in (mpc.add, mpc.sub)), default=math.inf)

    def _with_headroom(self, node: fx.Node, source: Any, x: Secret) -> Secret:
        """The summand `source` so coarse that its sum with something public, or of the server's, fits the ring."""
        return self._fitting(source, x, ring_bits(node, SEEN_MARGIN))

    def _fitting(self, node: Any, value: Secret, cap: float) -> Secret:
        """A summand below the cap of the sum; where it is opened anyway, truncating it there is exact and free."""
        if value.bits <= cap + 1e-9:
            return value
        return self.s.reduce(value, math.floor(cap), opened_anyway=opened_elementwise(node))

    def _lifted(self, node: Any, value: Secret) -> Secret:
        """A summand that is right modulo 2^64 again, where it is opened anyway and is finer than an operand need be."""
        if self.s.rings.missing(value.node) and opened_elementwise(node):
            return self.s.reduce(value, operand_bits(value.rms), opened_anyway=True)
        return value

    def sub(self, node: fx.Node) -> Secret:
        return self.add(node, -1.0)

    def scale(self, node: fx.Node) -> Secret:
        x = self._secret(self._value(node.args[0]))
        factor = float(node.args[1])  # type: ignore[arg-type]
        if factor == 0.0:
            return Secret(self.b.on(online.times, x.node, 0), x.scale, *self._out(node))
        return Secret(x.node, x.scale / factor, *self._out(node))

    def sum(self, node: fx.Node) -> Secret:
        x = self._secret(self._value(node.args[0]))
        x = self._fitting(node.args[0], x, ring_bits(node, SEEN_MARGIN))
        keepdim = bool(node.args[2]) if len(node.args) > 2 else bool(node.kwargs.get("keepdim", False))
        share = self.b.on(online.total, x.node, tuple(node.args[1]), keepdim)  # type: ignore[arg-type]
        return Secret(share, x.scale, *self._out(node))

    def mul(self, node: fx.Node) -> Secret:
        x, y = self._value(node.args[0]), self._value(node.args[1])
        cap = self.max_bits[node]
        if isinstance(x, Bit) and isinstance(y, Secret):
            return self._chosen(x, y, node)
        if isinstance(y, Bit) and isinstance(x, Secret):
            return self._chosen(y, x, node)
        if isinstance(x, Constant):
            return self._weighed(node, "mul", node.args[1], x, cap)
        if isinstance(y, Constant):
            return self._weighed(node, "mul", node.args[0], y, cap)
        left, right, coarse = self._secret(x), self._secret(y), node.name in self.tried.coarse
        alone = self.s.cuttable_bits(size_of(node), rms_of(node))
        if node in self.narrow and alone >= 2 * LEAST_OPERAND:  # in as many bits as each party may cut alone
            cap = min(cap, alone)
        for whole, part in ((left, node.args[1]), (right, node.args[0])):
            factors = self._factors(node, part, cap)
            if factors is not None:
                return products.multiply_three(self.s, (whole, *factors), self._out(node), cap, coarse)
        return products.multiply(self.s, left, right, self._out(node), cap, coarse, self._sum_bits(node))

    def _factors(self, product: fx.Node, node: Any, cap: float) -> tuple[Secret, Secret] | None:
        """The two factors of a product that only this product uses: taken together they save a round.

        Only where the product of three has room; its dealer terms are many, so two of the three must be small: both of these, or
        one and the third.
        """
        factor = 1.0
        while node.target in (aten.expand.default, mpc.scale) and len(node.users) == 1:
            factor *= float(node.args[1]) if node.target is mpc.scale else 1.0
            node = node.args[0]
        if node.target is not mpc.mul or len(node.users) > 1 or cap < products.THREE_FACTOR_BITS:
            return None
        sizes = sorted(size_of(one) for one in {*node.all_input_nodes, *product.all_input_nodes} - {node})
        small = shape_of(node)[-1:] == (1,) or len(sizes) == 3 and sizes[1] * products.MANY_TERMS <= size_of(product)
        values = [self.env[n] for n in node.args]
        if not small or not all(isinstance(v, Secret) for v in values):
            return None
        return self.s.signed(values[0], factor), values[1]  # type: ignore[arg-type, return-value]

    def square(self, node: fx.Node) -> Secret:
        x = self._secret(self._value(node.args[0]))
        return products.square(self.s, x, self._out(node), self.max_bits[node])

    def polynomial(self, node: fx.Node) -> Secret:
        x = self._secret(self._value(node.args[0]))
        seen = node.args[0].meta["range"]  # type: ignore[union-attr]
        pad = (float(seen.high) - float(seen.low)) * RANGE_PAD
        low, high = float(seen.low) - pad, float(seen.high) + pad
        like = x.scale if any(user.target is mpc.select for user in node.args[0].users) else 1.0  # type: ignore[union-attr]
        return products.polynomial(self.s, x, [*map(float, node.args[1])], low, high, self._out(node), like)  # type: ignore[arg-type]

    def curve(self, node: fx.Node) -> Secret:
        return curves.curve(self.s, self._secret(self._value(node.args[0])), node.args[1:], self._out(node), self.max_bits[node])

    def matmul(self, node: fx.Node) -> Secret:
        x, y = self._value(node.args[0]), self._value(node.args[1])
        cap = self.max_bits[node]
        if isinstance(y, Constant):
            return self._weighed(node, "matmul", node.args[0], y, cap)
        if isinstance(x, Constant):
            return self._weighed(node, "rmatmul", node.args[1], x, cap)
        left, right = self._secret(x), self._secret(y)
        early = early_operand(node, self.constants)
        if early is not None:
            room = min(cap, ring_bits(node, self.settings.margin)) - early_bits(rms_of(early))
            left, right = (
                self.s.reduce(v, early_bits(v.rms), opened_anyway=True) if n is early or v.bits > room else v
                for n, v in zip(node.args, (left, right), strict=True)
            )
        return products.matrix_product(self.s, left, right, self._out(node))

    def linear(self, node: fx.Node) -> Secret:
        return self._with_bias(node, "linear", ())

    def conv(self, node: fx.Node) -> Secret:
        attributes = tuple(tuple(a) for a in node.args[3:6])  # type: ignore[arg-type]
        return self._with_bias(node, "conv", (*attributes, node.args[6]))

    def _with_bias(self, node: fx.Node, kind: str, attributes: tuple[Any, ...]) -> Secret:
        weight = self._value(node.args[1])
        if not isinstance(weight, Constant):
            raise UnsupportedOperator(f"a {kind} whose weight depends on the input must be a matmul", where=self.where[0])
        cap = result_bits(node, weight.rms, self.max_bits[node], self.s.local_budget)
        result = self._weighed(node, kind, node.args[0], weight, cap, attributes)
        bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
        if bias is None:
            return result
        constant = self._constant(bias)
        if kind == "conv":
            shape = (-1, *([1] * (len(node.meta["val"].shape) - 2)))
            constant = Constant(f"{constant.name}.column", constant.value.reshape(shape))
        return products.with_weight(self.s, result, constant, self._out(node), tuple(node.meta["val"].shape))

    def _weighed(
        self, node: fx.Node, kind: str, source: Any, weight: Constant, cap: float, attributes: tuple[Any, ...] = ()
    ) -> Secret:
        """The product of the value of `source` with a tensor that the server knows."""
        x = self._secret(self._value(source))
        opened = (x.node,) if source in self.opened else ()
        return products.weight_product(self.s, kind, x, weight, self._out(node), cap, attributes, opened)

    def less(self, node: fx.Node) -> Bit | Secret:
        x = self._secret(self._value(node.args[0]))
        threshold = float(node.args[1])  # type: ignore[arg-type]
        if x.scale < 0:  # -x < t  <=>  not (x < -t)
            found = comparisons.less(self.s, self.s.signed(x, -1.0), -threshold)
            return Bit(found.node, found.shape, True)
        return comparisons.less(self.s, x, threshold)

    def select(self, node: fx.Node) -> Secret:
        bit, x = self._value(node.args[0]), self._secret(self._value(node.args[1]))
        if isinstance(bit, Bit):
            return self._chosen(bit, x, node)
        return products.multiply(self.s, self._secret(bit), x, self._out(node), self.max_bits[node])

    def _chosen(self, bit: Bit, x: Secret, node: fx.Node) -> Secret:
        if bit.shape != shape_of(x.node):
            flag = comparisons.number(self.s, bit)
            return products.multiply(self.s, flag, x, self._out(node), self.max_bits[node])
        cap = self.max_bits[node]
        chosen = comparisons.select(self.s, bit, x, self._out(node), cap)
        if not bit.negated:
            return chosen
        whole = self.s.reduce(x, math.floor(chosen.bits), opened_anyway=True) if x.bits > chosen.bits else x
        return self.s.combine((whole, self.s.signed(chosen, -1.0)), *self._out(node), cap, shape_of(x.node))


RULES: dict[Any, Callable[[Lowering, fx.Node], Value]] = {
    getattr(mpc, name): getattr(Lowering, name)
    for name in (
        "add", "sub", "scale", "mul", "square", "matmul", "linear", "conv", "sum", "polynomial", "curve", "less", "select"
    )
}
