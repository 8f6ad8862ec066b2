"""Quantised weights and activations by what they mean in floats: private inference has a fixed point of its own.

A dequantised constant is a weight like any other. An activation that is quantised and dequantised at once stays as it is,
with a note, but for the clipping of a range that ends at 0, which is how quantisers write a Relu.
Source: onnx/onnx docs/Operators.md (DequantizeLinear), microsoft/onnxruntime docs/ContribOperators.md (MatMulNBits).
"""

from __future__ import annotations

import warnings

import torch
from onnx import TensorProto
from torch import fx

from ..op import MICROSOFT, Op, Table
from ..recorder import Value, aten

LOWEST: dict[int, int] = {TensorProto.UINT8: 0, TensorProto.INT8: -128, TensorProto.UINT16: 0, TensorProto.INT16: -(2**15)}


def dequantize(op: Op, x: Value, scale: Value, zero: Value | None = None) -> Value:
    """(x - zero) * scale, for the whole tensor, along one axis, or in blocks of one axis."""
    axis, block = op.integer("axis", 1), op.integer("block_size")
    op.integer("output_dtype")  # a width of float: all of them are read as float32
    if isinstance(x, fx.Node):
        return x  # what `quantize` let through
    factor = op.known(scale, "the scale").double()
    offset = torch.zeros(1) if zero is None else op.known(zero, "the zero point")
    factor, offset = (_spread(op, item, x, axis, block) for item in (factor, offset.double()))
    return op.weight(((x.double() - offset) * factor).float())


def _spread(op: Op, values: torch.Tensor, x: torch.Tensor, axis: int, block: int) -> torch.Tensor:
    """One value for all, one for each place of an axis, or one for each block of places: in a shape that broadcasts."""
    if values.numel() == 1:
        return values.reshape([])
    along = op.front(axis, x.dim())
    if block:
        return values.repeat_interleave(block, along).narrow(along, 0, x.shape[along])
    return values.reshape([-1 if dim == along else 1 for dim in range(x.dim())])


def quantize(op: Op, x: Value, scale: Value, zero: Value | None = None) -> Value:
    """The activation itself, kept at or above 0 where the zero point is the lowest number of the type."""
    for name in ("axis", "saturate", "block_size", "precision"):
        op.has(name)
    kind = op.integer("output_dtype") or (TensorProto.UINT8 if zero is None else op.stored_type(2))
    if kind not in LOWEST:
        op.refuse("the type of the zero point is not one that is read")
    if isinstance(x, torch.Tensor) or op.recorder.is_known(x):
        op.refuse("a constant is quantised when the model runs", "fold the constants of the model")
    op.known(scale, "the scale")
    offset = torch.zeros(1) if zero is None else op.known(zero, "the zero point")
    warnings.warn("a quantised activation is computed in mpcc's own fixed point, without the rounding", stacklevel=2)
    return op.call(aten.relu.default, x) if bool(offset.eq(LOWEST[kind]).all()) else x


def matmul_n_bits(op: Op, x: Value, packed: Value, scales: Value, zeros: Value | None = None) -> Value:
    """x [.., K] with a weight [N, K] of 4 or 8 bits, in blocks along K, each with its scale and zero point."""
    rows, inner, bits, block = op.integer("N"), op.integer("K"), op.integer("bits", 4), op.integer("block_size")
    op.integer("accuracy_level")
    if bits not in (4, 8) or block < 1 or inner < 1:
        op.refuse(f"weights of {bits} bits in blocks of {block} are not supported")
    blocks = -(-inner // block)
    numbers = _unpacked(op.known(packed, "the weight"), bits).reshape(rows, blocks * block)
    factor = op.known(scales, "the scales").double().reshape(rows, blocks, 1)
    offset = torch.full((1, 1, 1), 2.0 ** (bits - 1), dtype=torch.float64)
    if zeros is not None:
        known = op.known(zeros, "the zero points")
        spelt = known if known.dtype.is_floating_point else _unpacked(known.reshape(rows, -1), bits)
        offset = spelt.reshape(rows, -1)[:, :blocks].double()[:, :, None]
    values = (numbers.double().reshape(rows, blocks, block) - offset) * factor
    weight = op.weight(values.reshape(rows, -1)[:, :inner].float().contiguous())
    return op.call(aten.linear.default, x, weight)


def _unpacked(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Two numbers of each byte, the lower half first."""
    if bits == 8:
        return packed
    return torch.stack([packed & 15, packed >> 4 & 15], -1).flatten(-2)


OPERATORS: Table = {
    ("", "DequantizeLinear"): dequantize,
    ("", "QuantizeLinear"): quantize,
    (MICROSOFT, "DequantizeLinear"): dequantize,
    (MICROSOFT, "QuantizeLinear"): quantize,
    (MICROSOFT, "MatMulNBits"): matmul_n_bits,
}
