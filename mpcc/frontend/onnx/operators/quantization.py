"""Quantised weights and activations by what they mean in floats: private inference has a fixed point of its own.

A dequantised constant, also one that is quantised in the file first, is a weight like any other. An activation that is
quantised and dequantised at once stays as it is, with a note, but for the clipping of a range that ends at 0, which is how
quantisers write a Relu.
Source: onnx/onnx docs/Operators.md (DequantizeLinear), microsoft/onnxruntime docs/ContribOperators.md (MatMulNBits).
"""

from __future__ import annotations

import warnings

import torch
from onnx import TensorProto
from torch import fx

from ..op import MICROSOFT, Op, Table
from ..recorder import Value, aten

LOWEST: dict[int, int] = {
    **{TensorProto.UINT8: 0, TensorProto.UINT16: 0, TensorProto.UINT4: 0, TensorProto.UINT2: 0},
    **{TensorProto.INT8: -(2**7), TensorProto.INT16: -(2**15), TensorProto.INT4: -(2**3), TensorProto.INT2: -2},
}
BITS: dict[int, int] = {
    **dict.fromkeys((TensorProto.UINT8, TensorProto.INT8), 8),
    **dict.fromkeys((TensorProto.UINT16, TensorProto.INT16), 16),
    **dict.fromkeys((TensorProto.UINT4, TensorProto.INT4), 4),
    **dict.fromkeys((TensorProto.UINT2, TensorProto.INT2), 2),
}


def dequantize(op: Op, x: Value, scale: Value, zero: Value | None = None) -> Value:
    """(x - zero) * scale, for the whole tensor, along one axis, or in blocks of one axis."""
    axis, block = op.integer("axis", 1), op.integer("block_size")
    op.integer("output_dtype")  # a width of float: all of them are read as float32
    if isinstance(x, fx.Node) and not op.recorder.is_known(x):
        return x  # what `quantize` let through
    x = op.known(x, "the constant")  # floats of 8 bits are stored like other weights
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
    axis, block = op.integer("axis", 1), op.integer("block_size")
    for name in ("saturate", "precision"):
        op.has(name)
    kind = op.integer("output_dtype") or (TensorProto.UINT8 if zero is None else op.stored_type(2))
    if kind not in LOWEST:
        op.refuse("the type of the zero point is not one that is read")
    factor = op.known(scale, "the scale").double()
    offset = torch.zeros(1) if zero is None else op.known(zero, "the zero point")
    if isinstance(x, torch.Tensor) or op.recorder.is_known(x):
        known = op.known(x, "the constant").double()
        factor, offset = (_spread(op, item, known, axis, block) for item in (factor, offset.double()))
        numbers = torch.round(known / factor) + offset  # halves to even, as the specification says
        return numbers.clamp(LOWEST[kind], LOWEST[kind] + 2 ** BITS[kind] - 1).long()
    warnings.warn("a quantised activation is computed in mpcc's own fixed point, without the rounding", stacklevel=2)
    return op.call(aten.relu.default, x) if bool(offset.eq(LOWEST[kind]).all()) else x


def matmul_n_bits(
    op: Op, x: Value, packed: Value, scales: Value, zeros: Value | None = None, groups: Value | None = None,
    bias: Value | None = None,
) -> Value:  # fmt: skip
    """x [.., K] with a weight [N, K] of 2, 4 or 8 bits, in blocks along K, each with its scale and zero point; then a bias [N].

    `groups` says for each place of K which block's scale and zero point are its own, where that is not the block that it lies in.
    """
    rows, inner, bits, block = op.integer("N"), op.integer("K"), op.integer("bits", 4), op.integer("block_size")
    op.integer("accuracy_level")
    if bits not in (2, 4, 8) or block < 1 or inner < 1:
        op.refuse(f"weights of {bits} bits in blocks of {block} are not supported")
    blocks = -(-inner // block)
    numbers = _unpacked(op.known(packed, "the weight"), bits).reshape(rows, blocks * block)[:, :inner].double()
    factor = op.known(scales, "the scales").double().reshape(rows, blocks)
    offset = torch.full((rows, blocks), 2.0 ** (bits - 1), dtype=torch.float64)
    if zeros is not None:
        known = op.known(zeros, "the zero points")
        spelt = known if known.dtype.is_floating_point else _unpacked(known.reshape(rows, -1), bits)
        offset = spelt.reshape(rows, -1)[:, :blocks].double()
    own = torch.arange(inner) // block if groups is None else op.known(groups, "the groups").reshape(-1)[:inner]
    weight = op.weight(((numbers - offset[:, own]) * factor[:, own]).float())
    return op.call(aten.linear.default, x, weight, *([] if bias is None else [bias]))


def _unpacked(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """The numbers of each byte, the lowest bits first."""
    return torch.stack([packed >> low & 2**bits - 1 for low in range(0, 8, bits)], -1).flatten(-2)


OPERATORS: Table = {
    ("", "DequantizeLinear"): dequantize,
    ("", "QuantizeLinear"): quantize,
    (MICROSOFT, "DequantizeLinear"): dequantize,
    (MICROSOFT, "QuantizeLinear"): quantize,
    (MICROSOFT, "MatMulNBits"): matmul_n_bits,
}
