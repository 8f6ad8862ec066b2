"""Activations and softmax: operators that are sites of the private program, kept whole."""

from __future__ import annotations

import math

from ..op import MICROSOFT, Op, Table, rank, shape_of
from ..recorder import Value, aten
from .arithmetic import unary


def gelu(op: Op, x: Value) -> Value:
    return op.call(aten.gelu.default, x, approximate=op.choice("approximate", "none", "tanh"))


def bias_gelu(op: Op, x: Value, bias: Value) -> Value:
    return op.call(aten.gelu.default, op.add(x, bias), approximate="none")


def fast_gelu(op: Op, x: Value, bias: Value | None = None) -> Value:
    return op.call(aten.gelu.default, x if bias is None else op.add(x, bias), approximate="tanh")


def quick_gelu(op: Op, x: Value) -> Value:
    """x * sigmoid(alpha x)"""
    return _gated(op, x, op.number("alpha", 1.702))


def swish(op: Op, x: Value) -> Value:
    return _gated(op, x, op.number("alpha", 1.0))


def swiglu(op: Op, gate: Value, x: Value) -> Value:
    return op.mul(swish(op, gate), x)


def _gated(op: Op, x: Value, alpha: float) -> Value:
    if alpha == 1.0:
        return op.call(aten.silu.default, x)
    return op.mul(x, op.call(aten.sigmoid.default, op.mul(x, alpha)))


def softmax(op: Op, x: Value) -> Value:
    return _softmax(op, x, log=False)


def log_softmax(op: Op, x: Value) -> Value:
    return _softmax(op, x, log=True)


def _softmax(op: Op, x: Value, *, log: bool) -> Value:
    """Before opset 13 all axes from `axis` on are one; since then it is one axis, by default the last."""
    target = aten.log_softmax.int if log else aten.softmax.int
    dims = rank(x)
    if op.version >= 13:
        return op.call(target, x, op.axis(-1, dims))
    axis = op.axis(1, dims)
    if axis == dims - 1:
        return op.call(target, x, axis)
    shape = shape_of(x)
    flat = op.reshape(x, [math.prod(shape[:axis]), math.prod(shape[axis:])])
    return op.reshape(op.call(target, flat, 1), shape)


def hard_sigmoid(op: Op, x: Value) -> Value:
    """clamp(alpha x + beta, 0, 1); torch's is that with 1/6 and 1/2."""
    alpha, beta = op.number("alpha", 0.2), op.number("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return op.call(aten.hardsigmoid.default, x)
    return op.call(aten.clamp.default, op.add(op.mul(x, alpha), beta), 0.0, 1.0)


def leaky_relu(op: Op, x: Value) -> Value:
    return op.call(aten.leaky_relu.default, x, op.number("alpha", 0.01))


def prelu(op: Op, x: Value, slope: Value) -> Value:
    """relu(x) - slope * relu(-x), with the slope broadcast to x."""
    negative = op.call(aten.relu.default, op.call(aten.neg.default, x))
    return op.sub(op.call(aten.relu.default, x), op.mul(negative, slope))


def elu(op: Op, x: Value) -> Value:
    return op.call(aten.elu.default, x, op.number("alpha", 1.0))


def celu(op: Op, x: Value) -> Value:
    """alpha (exp(x / alpha) - 1) below zero"""
    alpha = op.number("alpha", 1.0)
    return op.call(aten.elu.default, x, alpha, 1.0, 1.0 / alpha)


def selu(op: Op, x: Value) -> Value:
    alpha, gamma = op.number("alpha", 1.67326319217681884765625), op.number("gamma", 1.05070102214813232421875)
    return op.call(aten.elu.default, x, alpha, gamma)


def softsign(op: Op, x: Value) -> Value:
    denominator = op.add(op.call(aten.abs.default, x), 1.0)
    return op.call(aten.div.Tensor, x, denominator)


def thresholded_relu(op: Op, x: Value) -> Value:
    return op.call(aten.threshold.default, x, op.number("alpha", 1.0), 0.0)


def dropout(op: Op, x: Value, ratio: Value | None = None, training: Value | None = None) -> Value | tuple[Value, ...]:
    """Nothing, in evaluation mode."""
    if training is not None and bool(op.known(training, "training_mode").item()):
        op.refuse("the model was exported in training mode", "call model.eval() before the export")
    if not op.wants(1):
        return x
    return x, op.call(aten.ones_like.default, x)


OPERATORS: Table = {
    ("", "Gelu"): gelu,
    (MICROSOFT, "Gelu"): gelu,
    (MICROSOFT, "BiasGelu"): bias_gelu,
    (MICROSOFT, "FastGelu"): fast_gelu,
    (MICROSOFT, "QuickGelu"): quick_gelu,
    ("", "Swish"): swish,
    ("", "SwiGLU"): swiglu,
    ("", "Relu"): unary(aten.relu.default),
    ("", "Sigmoid"): unary(aten.sigmoid.default),
    ("", "Tanh"): unary(aten.tanh.default),
    ("", "HardSwish"): unary(aten.hardswish.default),
    ("", "HardSigmoid"): hard_sigmoid,
    ("", "Mish"): unary(aten.mish.default),
    ("", "Softplus"): unary(aten.softplus.default),
    ("", "Softsign"): softsign,
    ("", "LeakyRelu"): leaky_relu,
    ("", "PRelu"): prelu,
    ("", "Elu"): elu,
    ("", "Celu"): celu,
    ("", "Selu"): selu,
    ("", "ThresholdedRelu"): thresholded_relu,
    ("", "Softmax"): softmax,
    ("", "LogSoftmax"): log_softmax,
    ("", "Dropout"): dropout,
}
