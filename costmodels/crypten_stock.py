"""Prices of stock CrypTen 0.4.1: two parties, a dealer, every operator by CrypTen's own function.

Exact: equal to CrypTen's counters (`crypten.cfg.communicator.verbose`), operator by operator. The operators are those
of `mpcc.runtime.crypten_stock.operators`, so GELU is x * sigmoid(1.702 x), and weights are opened anew in every inference.
Correlated randomness is not counted, as CrypTen does not: its default provider makes it at party 0.

The name stays `crypten-stock` for this release, because `crypten` is still an alias of `mpcc`, mpcc's own engine.
"""

from __future__ import annotations

from mpcc.cost import Amount, Call, Compute, Price, Protocol, Work, elements
from mpcc.errors import MissingCost

from . import _crypten_functions as crypten


def online(work: Work) -> Price:
    return Price(online=work)


def free(call: Call) -> Price:
    return Price()


def product(call: Call) -> Price:
    """mul, matmul, linear, convolution: both operands are opened; a public one is not."""
    if len(call.shapes) < 2 or not (call.secret(0) and call.secret(1)):
        return Price()
    return online(crypten.mul(call.size(0), call.size(1)))


def division(call: Call) -> Price:
    """By a number: local. By a tensor: its reciprocal, then a product."""
    if isinstance(call.attrs.get("other"), int | float):
        return Price()
    divisor = call.size(len(call.shapes) - 1)
    work = crypten.reciprocal(divisor, bool(call.attrs.get("positive")))
    return online(work + crypten.mul(divisor, call.size(0)) if len(call.shapes) > 1 else work)


def reciprocal(call: Call) -> Price:
    return online(crypten.reciprocal(call.size(0), bool(call.attrs.get("positive"))))


def power(call: Call) -> Price:
    return online(crypten.power(call.size(0), int(call.attrs["exponent"])))


def softmax(call: Call) -> Price:
    rows, columns = call.rows(call.attrs["dim"])
    if columns == 1:
        return Price()
    count = rows * columns
    work = crypten.maximum(rows, columns) + crypten.exp(count) + crypten.reciprocal(rows, positive=True)
    return online(work + crypten.mul(count, rows))


def norm(call: Call) -> Price:
    """layer_norm, rms_norm: square, inverse square root of a row's mean, two products (the second with the weight)."""
    return online(_norm(call, elements(call.attrs["normalized_shape"])))


def group_norm(call: Call) -> Price:
    batch = call.shapes[0][0]
    return online(_norm(call, call.size(0) / (batch * call.attrs["num_groups"])))


def _norm(call: Call, columns: Amount) -> Work:
    count = call.size(0)
    rows = count // columns if isinstance(count, int) else count / columns
    work = crypten.square(count) + crypten.inv_sqrt(rows) + crypten.mul(count, rows)
    return work + crypten.mul(count, call.size(1)) if len(call.shapes) > 1 else work


def gelu(call: Call) -> Price:
    return online(crypten.sigmoid(call.out) + crypten.mul(call.out, call.out))


def clamp(call: Call) -> Price:
    both = call.attrs.get("min") is not None and call.attrs.get("max") is not None
    return online((crypten.hardtanh if both else crypten.relu)(call.out))


def hardswish(call: Call) -> Price:
    return online(crypten.hardtanh(call.out) + crypten.mul(call.out, call.out))


def amax(call: Call) -> Price:
    """One dimension after the other, from the last."""
    sizes = list(call.shapes[0])
    work = Work()
    for dim in sorted((dim % len(sizes) for dim in call.attrs["dim"]), reverse=True):
        columns, sizes[dim] = sizes[dim], 1
        work = work + crypten.maximum(elements(sizes), columns)
    return online(work)


def max_pool2d(call: Call) -> Price:
    kernel = call.attrs["kernel_size"]
    pair = [kernel] if isinstance(kernel, int) else list(kernel)
    return online(crypten.maximum(call.out, pair[0] * pair[-1]))


def select(call: Call) -> Price:
    return online(crypten.mul(call.size(0), call.size(1)))


def polynomial(call: Call) -> Price:
    coefficients = call.attrs.get("coefficients")
    if coefficients is None:
        raise MissingCost("the number of coefficients is not given")
    return online(crypten.polynomial(call.out, len(coefficients) - 1))


CRYPTEN_STOCK = Protocol(
    name="crypten-stock",
    title="CrypTen 0.4.1 as it is",
    parties=2,
    adversary="semi-honest",
    dealer=True,
    collusion="the dealer is the server, who can read the input: only weights are safe",
    engine='in Python: mpcc.compile(model, engine="stock")',
    advice="The baseline of comparisons; nothing to choose for use.",
    correlations="a dealer; by default party 0 itself, which can then read everything (CrypTen's TFP)",
    source="read off CrypTen 0.4.1's source; equal to its own counters, checked on every primitive and on whole models",
    executes="one function after the other: each blocks in its own all_reduce",
    rtt_per_round=2.0,  # all_reduce over gloo: 41.5 ms for 1,000 elements on a link of 20 ms round trip
    compute=Compute(
        source="ViT-Lite 7/4/32: 2.63 s a party on one core of the machine of the baseline measurements",
        per_round=3e-4,
        per_byte=5e-9,
        per_mac=1.5e-10,
    ),
    prices={
        **dict.fromkeys(("add", "sub", "neg", "scale", "sum", "mean", "avg_pool2d"), free),
        **dict.fromkeys(("mul", "matmul", "linear", "convolution", "conv"), product),
        "div": division,
        "pow": power,
        "square": lambda call: online(crypten.square(call.out)),
        "softmax": softmax,
        **dict.fromkeys(("layer_norm", "rms_norm"), norm),
        "group_norm": group_norm,
        **dict.fromkeys(("gelu", "silu"), gelu),
        **dict.fromkeys(
            ("relu", "leaky_relu", "maximum", "minimum", "abs"), lambda call: online(crypten.relu(call.out))
        ),
        "elu": lambda call: online(crypten.relu(call.out) + crypten.exp(call.out)),
        **dict.fromkeys(("sigmoid", "tanh"), lambda call: online(crypten.sigmoid(call.out))),
        "hardsigmoid": lambda call: online(crypten.hardtanh(call.out)),
        "hardswish": hardswish,
        "exp": lambda call: online(crypten.exp(call.out)),
        "reciprocal": reciprocal,
        "rsqrt": lambda call: online(crypten.inv_sqrt(call.out)),
        "sqrt": lambda call: online(crypten.inv_sqrt(call.out) + crypten.mul(call.out, call.out)),
        "clamp": clamp,
        "amax": amax,
        "max_pool2d": max_pool2d,
        **dict.fromkeys(("less", "step"), lambda call: online(crypten.less(call.out))),
        "select": select,
        "polynomial": polynomial,
    },
)
