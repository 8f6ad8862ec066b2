"""The operators of the nn and the mpc level as jax.numpy functions, in the forms that the SPU cost models price.

    aten.softmax.int(x, -1)      -> exp(x - max) * (1 / sum): one reciprocal per row

Each function has the arguments of the operator it stands for. SPU compiles what they call and runs it step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Value = Any  # a traced jax array


def softmax(x: Value, dim: int) -> Value:
    """The row's maximum, exp, one reciprocal per row, one product per element."""
    e = jnp.exp(x - x.max(dim, keepdims=True))
    return e * (1.0 / e.sum(dim, keepdims=True))


def layer_norm(x: Value, shape: Sequence[int], w: Value = None, b: Value = None, eps: float = 1e-5) -> Value:
    dims = tuple(range(-len(shape), 0))
    centred = x - x.mean(dims, keepdims=True)
    return _affine(_normed(centred, dims, eps), w, b)


def rms_norm(x: Value, shape: Sequence[int], w: Value = None, eps: float | None = None) -> Value:
    dims = tuple(range(-len(shape), 0))
    return _affine(_normed(x, dims, 1e-6 if eps is None else eps), w, None)


def group_norm(x: Value, groups: int, w: Value = None, b: Value = None, eps: float = 1e-5, *_: Any) -> Value:
    rows = x.reshape(x.shape[0], groups, -1)
    centred = rows - rows.mean((-1,), keepdims=True)
    channels = (-1, *(1,) * (x.ndim - 2))
    w, b = (p if p is None else p.reshape(channels) for p in (w, b))
    return _affine(_normed(centred, (-1,), eps).reshape(x.shape), w, b)


def _normed(x: Value, dims: tuple[int, ...], eps: float) -> Value:
    return x * jax.lax.rsqrt((x * x).mean(dims, keepdims=True) + eps)


def _affine(x: Value, w: Value, b: Value) -> Value:
    x = x if w is None else x * w
    return x if b is None else x + b


def gelu(x: Value, approximate: str = "none") -> Value:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def linear(x: Value, w: Value, b: Value = None) -> Value:
    """All rows as one product, as long as the batch is one."""
    y = (x.reshape(-1, x.shape[-1]) @ w.T).reshape(*x.shape[:-1], w.shape[0])
    return y if b is None else y + b


def convolution(
    x: Value,
    w: Value,
    b: Value,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
    output_padding: Sequence[int] = (),
    groups: int = 1,
) -> Value:
    if transposed:
        raise NotImplementedError("a transposed convolution")
    y = jax.lax.conv_general_dilated(
        x, w, list(stride), [(p, p) for p in padding], rhs_dilation=list(dilation), feature_group_count=groups
    )
    return y if b is None else y + b.reshape(1, -1, *(1,) * (y.ndim - 2))


def conv(x: Value, w: Value, b: Value, stride: Any, padding: Any, dilation: Any, groups: int) -> Value:
    return convolution(x, w, b, stride, padding, dilation, groups=groups)


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """Horner's rule: one product with a number, then a product of secrets for each further degree."""
    y = x * coefficients[-1] + coefficients[-2] if len(coefficients) > 1 else jnp.full_like(x, coefficients[0])
    for c in reversed(coefficients[:-2]):
        y = y * x + c
    return y


def power(x: Value, exponent: float) -> Value:
    """By squares and products."""
    if exponent != int(exponent) or exponent < 1:
        raise NotImplementedError(f"the power {exponent}")
    result, base, left = None, x, int(exponent)
    while left:
        if left & 1:
            result = base if result is None else result * base
        left >>= 1
        base = base * base if left else base
    return result


def clamp(x: Value, min: float | None = None, max: float | None = None) -> Value:  # noqa: A002  (ATen's names)
    x = x if min is None else jnp.maximum(x, min)
    return x if max is None else jnp.minimum(x, max)


def windows(x: Value, kernel: Any, stride: Any, padding: Any) -> tuple[tuple[int, ...], tuple[int, ...], Any]:
    kernel, stride, padding = (_pair(value) for value in (kernel, stride or kernel, padding))
    edges = ((0, 0), (0, 0), *((p, p) for p in padding))
    return (1, 1, *kernel), (1, 1, *stride), edges


def avg_pool2d(x: Value, kernel: Any, stride: Any = None, padding: Any = 0, *_: Any) -> Value:
    size, step, edges = windows(x, kernel, stride, padding)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, size, step, edges) * (1 / math.prod(size))


def max_pool2d(x: Value, kernel: Any, stride: Any = None, padding: Any = 0, *_: Any) -> Value:
    size, step, edges = windows(x, kernel, stride, padding)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, size, step, edges)


def _pair(value: Any) -> tuple[int, int]:
    found = (value, value) if isinstance(value, int) else tuple(value)
    return (found[0], found[-1])


def hardsigmoid(x: Value) -> Value:
    return jnp.minimum(jnp.maximum(x * (1 / 6) + 0.5, 0.0), 1.0)


def elu(x: Value, alpha: float = 1.0, *_: Any) -> Value:
    """One comparison: the positive part is x less the negative one."""
    below = jnp.minimum(x, 0.0)
    grown = jnp.exp(below) - 1.0
    return x - below + (grown if alpha == 1 else alpha * grown)


def leaky_relu(x: Value, slope: float = 0.01) -> Value:
    return jnp.maximum(x, x * slope) if slope <= 1 else jnp.minimum(x, x * slope)


def slice_(x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    index = [slice(None)] * x.ndim
    index[dim] = slice(start, end, step)
    return x[tuple(index)]


def select(x: Value, dim: int, index: int) -> Value:
    return jnp.take(x, index, axis=dim) if index < 0 else jax.lax.index_in_dim(x, index, dim, keepdims=False)


def expand(x: Value, shape: Sequence[int], **_: Any) -> Value:
    lead = len(shape) - x.ndim
    return jnp.broadcast_to(x, [x.shape[i - lead] if size == -1 else size for i, size in enumerate(shape)])


def pad(x: Value, edges: Sequence[int], value: float = 0.0) -> Value:
    pairs = [(edges[i], edges[i + 1]) for i in range(0, len(edges), 2)]
    return jnp.pad(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1], constant_values=value)


def index(x: Value, found: Sequence[Any]) -> Value:
    return x[tuple(slice(None) if one is None else one for one in found)]


def total(x: Value, dims: Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Value:
    return x.sum(tuple(dims) if dims else None, keepdims=keepdim)


def mean(x: Value, dims: Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Value:
    return x.mean(tuple(dims) if dims else None, keepdims=keepdim)


def apply_mask(x: Value, shape: Sequence[int], bits: str) -> Value:
    """Zero where the public mask is 0 (its text: mpcc.ir.public_mask). Local: nothing is multiplied that has a fraction."""
    packed = np.frombuffer(bytes.fromhex(bits), dtype=np.uint8)
    kept = np.unpackbits(packed, count=math.prod(shape)).astype(bool).reshape(tuple(shape))
    return jnp.where(kept, x, 0.0)


ONE = np.float32(1 + 2.0**-23)
"""1 in fixed point, and no 1 that a compiler would drop: a secret bit times this is one cheap conversion. What it makes of a
product with 1, a change of type, adds up the bits of 64-bit words: 368 bytes an element under ABY3, and not 32."""


def number(x: Value) -> Value:
    """A secret bit as 0 or 1, where arithmetic needs a number; `select` takes it as it is."""
    return jnp.where(x, ONE, 0.0) if is_bit(x) else x


def is_bit(x: Value) -> bool:
    return bool(getattr(x, "dtype", None) == jnp.bool_)


def entries(values: Value) -> Iterator[Value]:
    """The elements of a vector, one by one."""
    for place in range(values.shape[0]):
        yield jax.lax.slice(values, (place,), (place + 1,)).reshape(())


def scale(x: Value, factor: Value) -> Value:
    """By a number, or a public value. A change of sign is no product."""
    known = isinstance(factor, int | float)
    if is_bit(x):
        return jnp.where(x, ONE * np.float32(factor) if known and abs(factor) == 1.0 else factor, 0.0)
    return -x if known and factor == -1.0 else x * factor


def scale_rows(x: Value, shape: Sequence[int], weights: Sequence[Value]) -> Value:
    return x * jnp.stack([jnp.float32(weight) for weight in weights]).reshape(tuple(shape))


def product(x: Value, y: Value) -> Value:
    """With a bit it is a selection."""
    x, y = (y, x) if is_bit(y) else (x, y)
    return jnp.where(x, number(y), 0.0) if is_bit(x) else x * y


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "aten.linear.default": linear,
    "aten.matmul.default": jnp.matmul,
    "aten.convolution.default": convolution,
    "aten.softmax.int": softmax,
    "aten.gelu.default": gelu,
    "aten.layer_norm.default": layer_norm,
    "aten.rms_norm.default": rms_norm,
    "aten.group_norm.default": group_norm,
    "aten.relu.default": lambda x: jnp.maximum(x, 0.0),
    "aten.silu.default": lambda x: x * jax.nn.sigmoid(x),
    "aten.hardswish.default": lambda x: x * hardsigmoid(x),
    "aten.hardsigmoid.default": hardsigmoid,
    "aten.sigmoid.default": jax.nn.sigmoid,
    "aten.tanh.default": jnp.tanh,
    "aten.exp.default": jnp.exp,
    "aten.reciprocal.default": lambda x: 1.0 / x,
    "aten.sqrt.default": jnp.sqrt,
    "aten.rsqrt.default": jax.lax.rsqrt,
    "aten.amax.default": lambda x, dims, keepdim=False: x.max(tuple(dims), keepdims=keepdim),
    "aten.max_pool2d.default": max_pool2d,
    "aten.abs.default": jnp.abs,
    "aten.clamp.default": clamp,
    "aten.maximum.default": jnp.maximum,
    "aten.minimum.default": jnp.minimum,
    "aten.leaky_relu.default": leaky_relu,
    "aten.elu.default": elu,
    "aten.add.Tensor": lambda x, y: x + y,
    "aten.sub.Tensor": lambda x, y: x - y,
    "aten.mul.Tensor": lambda x, y: x * y,
    "aten.div.Tensor": lambda x, y: x * (1 / y) if isinstance(y, int | float) else x / y,
    "aten.neg.default": lambda x: -x,
    "aten.pow.Tensor_Scalar": power,
    "aten.sum.dim_IntList": total,
    "aten.mean.dim": mean,
    "aten.avg_pool2d.default": avg_pool2d,
    "aten.reshape.default": lambda x, shape: x.reshape(tuple(shape)),
    "aten.permute.default": lambda x, dims: jnp.transpose(x, tuple(dims)),
    "aten.expand.default": expand,
    "aten.slice.Tensor": slice_,
    "aten.select.int": select,
    "aten.cat.default": lambda parts, dim=0: jnp.concatenate(parts, dim),
    "aten.constant_pad_nd.default": pad,
    "aten.roll.default": lambda x, shifts, dims: jnp.roll(x, tuple(shifts), tuple(dims)),
    "aten.flip.default": lambda x, dims: jnp.flip(x, tuple(dims)),
    "aten.index.Tensor": index,
    "mpc.add": lambda x, y: number(x) + number(y),
    "mpc.sub": lambda x, y: number(x) - number(y),
    "mpc.scale": scale,
    "mpc.mul": product,
    "mpc.square": lambda x: x * x,
    "mpc.matmul": jnp.matmul,
    "mpc.linear": linear,
    "mpc.conv": conv,
    "mpc.sum": lambda x, dims, keepdim=False: total(number(x), dims, keepdim),
    "mpc.polynomial": polynomial,
    "mpc.less": lambda x, threshold: x < threshold,
    "mpc.select": lambda bit, x: jnp.where(bit, x, 0.0),
    "mpc.gather": lambda x, dim, positions: jnp.take(x, np.array(positions), axis=dim),
    "mpc.apply_mask": apply_mask,
    "mpc.scale_rows": scale_rows,
}
