"""Matrix products and convolutions. A weight matrix becomes a `linear`, stored as torch stores it ([out, in])."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from ..op import MICROSOFT, Op, Table, rank, shape_of
from ..recorder import Value, aten
from .windows import explicit_pads, pad, window


def matmul(op: Op, x: Value, y: Value) -> Value:
    return product(op, x, y)


def product(op: Op, x: Value, y: Value) -> Value:
    """x @ y; with a parameter matrix y it is `linear(x, y^T)`, and settle.py stores y transposed."""
    if isinstance(x, fx.Node) and rank(x) >= 1 and is_matrix(y) and not is_parameter(x):
        return op.call(aten.linear.default, x, op.permute(y, [1, 0]))
    return op.call(aten.matmul.default, x, y)


def is_parameter(value: Value) -> bool:
    return isinstance(value, fx.Node) and value.op == "get_attr"


def is_matrix(value: Value) -> bool:
    """Whether `value` is a weight matrix: a parameter or known tensor, or a transposed one."""
    while isinstance(value, fx.Node) and value.target == aten.permute.default:
        value = value.args[0]  # type: ignore[assignment]
    return rank(value) == 2 and (isinstance(value, torch.Tensor) or is_parameter(value))


def gemm(op: Op, x: Value, y: Value, bias: Value | None = None) -> Value:
    """alpha x' y' + beta bias, each matrix transposed where the attributes say so."""
    x = op.permute(x, [1, 0]) if op.flag("transA") else x
    y = op.permute(y, [1, 0]) if op.flag("transB") else y
    result = product(op, x, y)
    alpha, beta = op.number("alpha", 1.0), op.number("beta", 1.0)
    result = result if alpha == 1.0 else op.mul(result, alpha)
    if bias is None or beta == 0.0:
        return result
    return op.add(result, bias if beta == 1.0 else op.mul(bias, beta))


def fused_matmul(op: Op, x: Value, y: Value) -> Value:
    """alpha x' y'. `transBatch` moves the first axis before the last two; it acts before `trans`."""
    x = _transposed(op, x, op.flag("transA"), op.flag("transBatchA"))
    y = _transposed(op, y, op.flag("transB"), op.flag("transBatchB"))
    alpha = op.number("alpha", 1.0)
    result = product(op, x, y)
    return result if alpha == 1.0 else op.mul(result, alpha)


def _transposed(op: Op, x: Value, last: bool, batch: bool) -> Value:
    order = list(range(rank(x)))
    if batch and rank(x) > 2:
        order = [*order[1:-1], 0, order[-1]]
    if last and rank(x) > 1:
        order = [*order[:-2], order[-1], order[-2]]
    return op.permute(x, order)


def einsum(op: Op, *inputs: Value) -> Value:
    return op.call(aten.einsum.default, op.text("equation").replace(" ", ""), list(inputs))


def conv(op: Op, x: Value, weight: Value, bias: Value | None = None) -> Value:
    kernel = op.integers("kernel_shape") or list(shape_of(weight)[2:])
    at = window(op, kernel)
    before, after = explicit_pads(op, at, shape_of(x)[2:])
    if before != after:
        x, before = pad(op, x, before, after), [0] * len(kernel)
    zeros = [0] * len(kernel)
    groups = op.integer("group", 1)
    return op.call(aten.convolution.default, x, weight, bias, at.strides, before, at.dilations, False, zeros, groups)


def conv_transpose(op: Op, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """Pads crop the output; torch crops both ends alike, so an uneven rest is sliced off (or padded) afterwards."""
    kernel = op.integers("kernel_shape") or list(shape_of(weight)[2:])
    at = window(op, kernel)
    extra = op.integers("output_padding", [0] * len(kernel))
    zeros = [0] * len(kernel)
    full = op.call(
        aten.convolution.default, x, weight, bias, at.strides, zeros, at.dilations, True, zeros, op.integer("group", 1)
    )
    sizes = shape_of(full)[2:]
    grown = [size + more for size, more in zip(sizes, extra, strict=True)]
    before, after = _crops(op, grown, at.strides, shape_of(x)[2:])
    beyond = [more - crop for more, crop in zip(extra, after, strict=True)]
    if any(rest > 0 for rest in beyond) and bias is not None:
        op.refuse("an output padding larger than the padding, with a bias")
    for axis, (size, crop, rest) in enumerate(zip(sizes, before, beyond, strict=True), start=2):
        if crop or rest < 0:
            full = op.call(aten.slice.Tensor, full, axis, crop, size + min(rest, 0), 1)
    return pad(op, full, zeros, [max(rest, 0) for rest in beyond])


def _crops(op: Op, full: Sequence[int], strides: Sequence[int], inputs: Sequence[int]) -> tuple[list[int], list[int]]:
    mode = op.text("auto_pad", "NOTSET")
    wanted = op.integers("output_shape")
    if not wanted and mode in ("NOTSET", "VALID"):
        pads = op.integers("pads", [0] * (2 * len(full))) if mode == "NOTSET" else [0] * (2 * len(full))
        return pads[: len(full)], pads[len(full) :]
    if not wanted:
        wanted = [size * stride for size, stride in zip(inputs, strides, strict=True)]
    totals = [size - want for size, want in zip(full, wanted[-len(full) :], strict=True)]
    if min(totals) < 0:
        op.refuse("an output larger than what the kernel reaches: implementations disagree on what it means")
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


OPERATORS: Table = {
    ("", "MatMul"): matmul,
    ("", "Gemm"): gemm,
    (MICROSOFT, "FusedMatMul"): fused_matmul,
    (MICROSOFT, "TransposeMatMul"): fused_matmul,
    ("", "Einsum"): einsum,
    ("", "Conv"): conv,
    ("", "ConvTranspose"): conv_transpose,
}
