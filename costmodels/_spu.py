"""What SPU's three protocols share: which operator is made of which, and how a matrix product is cut into calls.

Bytes and messages are totals over all parties, hops one-way messages on the critical path (a hop is half a round trip).
Measured on SPU 0.9.5 (ring of 64 bits, 18 fraction bits) by its own counters and by delaying every message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mpcc.cost import Amount, Call, Formula, Price, Work, ceil_log2, elements
from mpcc.errors import MissingCost

SOURCE = "SPU 0.9.5, measured: bytes and messages by its counters, hops by delaying every message"
EXECUTES = "one operator after the other: SPU 0.9.5 leaves experimental_enable_inter_op_par off"
Rate = tuple[float, float, float] | Callable[[Amount], Work]
"""Bytes an element, hops and messages; or, where the bytes go by steps, the work of so many elements."""


@dataclass(frozen=True)
class Spu:
    """The measured forms of one protocol.

    `rates` by element: scale (product with a public number), mul, less, relu, select, abs, exp, reciprocal, div, rsqrt,
    sqrt, sigmoid, tanh, gelu_exact, gelu_tanh; number (a secret bit as a number, or times a public one). `matmul` prices one
    unbatched product of m x k and k x n. `level`: bytes an element, hops and messages of one level of a maximum's tree.
    `norm_hops`: of a whole norm, where that is not the sum of its parts.
    """

    rates: Mapping[str, Rate]
    matmul: Callable[[Amount, Amount, Amount, bool], Work]
    level: tuple[float, float, float]
    level_start: float = 0.0  # hops of a maximum beyond its levels
    norm_hops: float | None = None

    def rate(self, name: str, count: Amount) -> Work:
        """The work of an element-wise operation on `count` elements."""
        if name not in self.rates:
            raise MissingCost(f"its part {name!r} was not measured")
        rate = self.rates[name]
        if not isinstance(rate, tuple):
            return rate(count)
        size, hops, messages = rate
        return Work(hops, size * count, messages=messages)

    def numbers(self, call: Call) -> Work:
        """The bits among the operands, each made a number where it is used."""
        return sum((self.rate("number", call.size(i)) for i in call.attrs.get("bits", ())), Work())

    def maximum(self, rows: Amount, columns: Amount) -> Work:
        per_element, hops, messages = self.level
        if columns == 1:
            return Work()
        levels = ceil_log2(columns)
        return Work(self.level_start + hops * levels, per_element * rows * (columns - 1), messages=messages * levels)

    def softmax(self, call: Call) -> Work:
        """One reciprocal a row, or with `division="element"` one division an element, as `a / a.sum(-1)` runs."""
        rows, columns = call.rows(call.attrs["dim"])
        count = rows * columns
        start = self.maximum(rows, columns) + self.rate("exp", count)
        if call.attrs.get("division") == "element":
            return start + self.rate("div", count)
        return start + self.rate("reciprocal", rows) + self.rate("mul", count)

    def norm(self, call: Call, columns: Amount) -> Work:
        """Mean (not of rms_norm), square, mean, rsqrt of a row's number, product, product with a secret weight."""
        count = call.size(0)
        rows = count // columns if isinstance(count, int) else count / columns
        products, means = 3 if len(call.shapes) > 1 else 2, 1 if call.primitive == "rms_norm" else 2
        one = self.rate("mul", count)
        work = one * products + self.rate("rsqrt", rows) + self.rate("scale", rows) * means
        if self.norm_hops is None:
            return work
        return replace(work, rounds=self.norm_hops - one.rounds * (3 - products))

    def product(self, call: Call) -> Work:
        """A batch is a loop: H heads are H products, one after the other."""
        public = not (call.secret(0) and call.secret(1))
        first, second = call.shapes[:2]
        if call.primitive == "linear":
            return self.matmul(elements(first[:-1]), first[-1], second[0], public)
        if call.primitive == "matmul":
            entries = elements(call.output[:-2])
            one = self.matmul(first[-2], first[-1], second[-1], public)
            batch: Work = one * entries
            return batch
        groups = call.attrs.get("groups", 1)
        positions = elements([call.output[0], *call.output[2:]])
        one = self.matmul(positions, elements(second[1:]), second[0] // groups, public)
        return one * int(groups)

    def power(self, count: Amount, exponent: int) -> Work:
        bits = bin(exponent)[2:]
        return self.rate("mul", count) * (len(bits) - 1 + bits.count("1") - 1)

    def polynomial(self, count: Amount, degree: int) -> Work:
        """Horner's rule: one product with a public number, then a product of secrets for each further degree."""
        return Work() if degree < 1 else self.rate("scale", count) + self.rate("mul", count) * (degree - 1)

    def prices(self) -> dict[str, Formula]:
        """The price table of the protocol."""

        def each(*names: str) -> Formula:
            def formula(call: Call) -> Price:
                return online(sum((self.rate(name, call.out) for name in names), Work()))

            return formula

        def summed(call: Call) -> Price:
            return online(self.numbers(call))

        def scaled(call: Call) -> Price:
            """A change of sign is no product."""
            if call.attrs.get("bits"):
                return online(self.rate("number", call.out))
            return Price() if call.attrs.get("factor") == -1.0 else online(self.rate("scale", call.out))

        def mul(call: Call) -> Price:
            secret = len(call.shapes) > 1 and call.secret(0) and call.secret(1)
            bits = len(call.attrs.get("bits", ()))
            if bits:  # of two bits, one is made a number
                return online(self.rate("select", call.out) + self.rate("number", call.out) * (bits - 1))
            return online(self.rate("mul" if secret else "scale", call.out))

        def div(call: Call) -> Price:
            by_number = isinstance(call.attrs.get("other"), int | float) or not call.secret(len(call.shapes) - 1)
            return online(self.rate("scale" if by_number else "div", call.out))

        def gelu(call: Call) -> Price:
            tanh = call.attrs.get("approximate", "none") == "tanh"
            return online(self.rate("gelu_tanh" if tanh else "gelu_exact", call.out))

        def amax(call: Call) -> Price:
            rows, columns = call.rows(call.attrs["dim"])
            return online(self.maximum(rows, columns))

        def max_pool2d(call: Call) -> Price:
            kernel = call.attrs["kernel_size"]
            pair = [kernel] if isinstance(kernel, int) else list(kernel)
            return online(self.maximum(call.out, pair[0] * pair[-1]))

        def clamp(call: Call) -> Price:
            bounds = sum(call.attrs.get(name) is not None for name in ("min", "max"))
            return online(self.rate("relu", call.out) * bounds)

        def group_norm(call: Call) -> Price:
            groups = call.shapes[0][0] * call.attrs["num_groups"]
            count = call.size(0)
            return online(self.norm(call, count // groups if isinstance(count, int) else count / groups))

        return {
            **dict.fromkeys(("add", "sub", "neg", "sum"), summed),
            "scale": scaled,
            **dict.fromkeys(("mean", "avg_pool2d"), each("scale")),
            "mul": mul,
            "square": each("mul"),
            "div": div,
            "pow": lambda call: online(self.power(call.out, int(call.attrs["exponent"]))),
            **dict.fromkeys(("matmul", "linear", "convolution", "conv"), lambda call: online(self.product(call))),
            "softmax": lambda call: online(self.softmax(call)),
            **dict.fromkeys(
                ("layer_norm", "rms_norm"),
                lambda call: online(self.norm(call, elements(call.attrs["normalized_shape"]))),
            ),
            "group_norm": group_norm,
            "gelu": gelu,
            **dict.fromkeys(("relu", "maximum", "minimum"), each("relu")),
            "leaky_relu": each("scale", "relu"),
            "abs": each("abs"),
            "elu": each("relu", "exp"),
            "clamp": clamp,
            "hardsigmoid": each("scale", "relu", "relu"),
            "hardswish": each("scale", "relu", "relu", "mul"),
            "sigmoid": each("sigmoid"),
            "silu": each("sigmoid", "mul"),
            "tanh": each("tanh"),
            "exp": each("exp"),
            "reciprocal": each("reciprocal"),
            "rsqrt": each("rsqrt"),
            "sqrt": each("sqrt"),
            "amax": amax,
            "max_pool2d": max_pool2d,
            "less": each("less"),
            "select": each("select"),
            "polynomial": lambda call: online(self.polynomial(call.out, len(call.attrs["coefficients"]) - 1)),
        }


def online(work: Work) -> Price:
    """A price that is all online."""
    return Price(online=work)
