"""Forms that onnxruntime's optimiser fuses: an operator of another family with an activation or a sum behind it."""

from __future__ import annotations

from ..op import MICROSOFT, Op, Table
from ..recorder import Value, aten
from .products import conv, gemm
from .views import trilu

PLAIN = {
    "": None,
    "Relu": aten.relu.default,
    "Sigmoid": aten.sigmoid.default,
    "Tanh": aten.tanh.default,
    "HardSwish": aten.hardswish.default,
}


def fused_conv(op: Op, x: Value, weight: Value, bias: Value | None = None, added: Value | None = None) -> Value:
    """activation(conv(x) + added)"""
    y = conv(op, x, weight, bias)
    return _activated(op, y if added is None else op.add(y, added), op.numbers("activation_params"))


def fused_gemm(op: Op, x: Value, y: Value, bias: Value | None = None) -> Value:
    return _activated(op, gemm(op, x, y, bias), [op.number("activation_alpha"), op.number("activation_beta")])


def _activated(op: Op, x: Value, numbers: list[float]) -> Value:
    name = op.text("activation")
    if name in PLAIN:
        return x if PLAIN[name] is None else op.call(PLAIN[name], x)
    if name == "LeakyRelu":
        return op.call(aten.leaky_relu.default, x, numbers[0])
    if name == "Clip":
        return op.call(aten.clamp.default, x, numbers[0], numbers[1])
    if name == "HardSigmoid":
        return op.call(aten.clamp.default, op.add(op.mul(x, numbers[0]), numbers[1]), 0.0, 1.0)
    op.refuse(f"the fused activation {name} is not known", "optimise the file at the level basic")


OPERATORS: Table = {
    (MICROSOFT, "FusedConv"): fused_conv,
    (MICROSOFT, "FusedGemm"): fused_gemm,
    (MICROSOFT, "Trilu"): trilu,
}
