"""Products, convolutions, pooling and resizing in all variants equal onnxruntime."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.models.onnx_build import MICROSOFT, Case, agree, case, f, i, weights, x

MATRICES = [
    case("MatMul", x(2, 3), weights(3, 4)),
    case("MatMul", x(2, 5, 3), weights(3, 4)),
    case("MatMul", weights(4, 3), x(3, 2)),
    case("MatMul", x(2, 3, 4), x(2, 4, 5)),
    case("MatMul", x(2, 1, 3, 4), x(3, 4, 5)),
    case("MatMul", x(3), weights(3, 4)),
    case("MatMul", x(2, 3), weights(3)),
    case("MatMul", x(2, 3, 4), weights(2, 4, 5)),
    *(
        case("Gemm", x(3, 3), weights(3, 3), *bias, transA=a, transB=b)
        for a, b, bias in product((0, 1), (0, 1), ((), (weights(3, seed=8),)))
    ),
    case("Gemm", x(2, 3), weights(3, 4), weights(2, 1), alpha=0.5, beta=2.0),
    case("Gemm", x(2, 3), weights(4, 3), weights(1, 4), transB=1),
    case("Gemm", x(2, 3), weights(3, 4), np.float32(0.5)),
    case("Gemm", x(2, 3), x(3, 4), x(4)),
    case("Gemm", x(2, 3), weights(3, 4), opset=11),
    *(
        case("FusedMatMul", x(2, 3, 3), x(2, 3, 3), domain=MICROSOFT, alpha=0.125, transA=a, transB=b)
        for a, b in product((0, 1), (0, 1))
    ),
    case("FusedMatMul", x(2, 3, 4), x(2, 5, 4), domain=MICROSOFT, transB=1),
    case("FusedMatMul", x(2, 3), weights(4, 3), domain=MICROSOFT, transB=1, alpha=2.0),
    case("FusedMatMul", x(3, 2, 4), x(3, 2, 4), domain=MICROSOFT, transB=1, transBatchA=1, transBatchB=1),
    case("TransposeMatMul", x(2, 3, 4), x(2, 5, 4), domain=MICROSOFT, transB=1),
    case("FusedGemm", x(2, 3), weights(3, 4), weights(4), domain=MICROSOFT, activation="Relu"),
    case("FusedGemm", x(2, 3), weights(3, 4), domain=MICROSOFT, activation="LeakyRelu", activation_alpha=0.1),
    *(
        case("Einsum", x(2, 3, 4), x(2, 5, 4), equation=equation)
        for equation in ("bik,bjk->bij", "b i k, b j k -> b i j", "bik,bjk->ij")
    ),
    case("Einsum", x(2, 3), equation="ij->ji"),
    case("Einsum", x(2, 3, 4, 5), x(2, 6, 4, 5), equation="bhld,bmld->bhml"),
]

CONVOLUTIONS = [
    case("Conv", x(1, 3, 8, 8), weights(4, 3, 3, 3), weights(4), pads=[1, 1, 1, 1]),
    case("Conv", x(1, 3, 8, 8), weights(4, 3, 4, 4), strides=[4, 4]),
    case("Conv", x(1, 4, 8, 8), weights(4, 1, 3, 3), group=4, pads=[1, 1, 1, 1], strides=[2, 2]),
    case("Conv", x(1, 4, 8, 8), weights(6, 2, 3, 3), group=2, dilations=[2, 2]),
    case("Conv", x(1, 3, 7, 8), weights(4, 3, 3, 3), pads=[0, 1, 2, 0]),
    *(
        case("Conv", x(1, 2, 7, 8), weights(3, 2, 3, 2), auto_pad=mode, strides=strides)
        for mode, strides in product(("SAME_UPPER", "SAME_LOWER", "VALID"), ([1, 1], [2, 3]))
    ),
    case("Conv", x(1, 3, 9), weights(4, 3, 3), pads=[1, 1]),
    case("Conv", x(1, 2, 4, 4, 4), weights(3, 2, 2, 2, 2)),
    case("FusedConv", x(1, 2, 5, 5), weights(3, 2, 3, 3), weights(3), domain=MICROSOFT, activation="Relu"),
    case("FusedConv", x(1, 2, 5, 5), weights(3, 2, 3, 3), weights(3), x(1, 3, 3, 3), domain=MICROSOFT),
    case("FusedConv", x(1, 2, 5, 5), weights(3, 2, 3, 3), domain=MICROSOFT, activation="HardSigmoid",
         activation_params=[0.2, 0.5]),
    case("FusedConv", x(1, 2, 5, 5), weights(3, 2, 3, 3), domain=MICROSOFT, activation="Clip",
         activation_params=[-1.0, 2.0]),
    case("ConvTranspose", x(1, 2, 4, 4), weights(2, 3, 2, 2), weights(3), strides=[2, 2]),
    case("ConvTranspose", x(1, 2, 4, 4), weights(2, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("ConvTranspose", x(1, 2, 4, 4), weights(2, 3, 3, 3), strides=[2, 2], pads=[1, 0, 0, 1]),
    case("ConvTranspose", x(1, 2, 4, 4), weights(2, 3, 3, 3), weights(3), strides=[2, 2], pads=[1, 1, 1, 1],
         output_padding=[1, 1]),
    case("ConvTranspose", x(1, 2, 4, 4), weights(2, 3, 3, 3), strides=[2, 2], output_padding=[1, 1]),
    case("ConvTranspose", x(1, 2, 4, 4), weights(2, 3, 3, 3), strides=[2, 2], output_shape=[8, 8]),
    case("ConvTranspose", x(1, 2, 4, 4), weights(2, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", x(1, 4, 4, 4), weights(4, 1, 2, 2), strides=[2, 2], group=2),
    case("ConvTranspose", x(1, 2, 5), weights(2, 3, 4), strides=[2], pads=[1, 1]),
]  # fmt: skip

POOLS = [
    *(
        case(kind, x(1, 2, 7, 8), kernel_shape=[3, 2], strides=strides, pads=pads, ceil_mode=ceil, opset=19)
        for kind, strides, pads, ceil in product(
            ("MaxPool", "AveragePool"), ([1, 1], [2, 3]), ([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]), (0, 1)
        )
    ),
    *(
        case("AveragePool", x(1, 2, 7, 8), kernel_shape=[3, 3], strides=[2, 2], pads=pads, count_include_pad=1)
        for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1])
    ),
    case("AveragePool", x(1, 2, 7, 8), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    case("MaxPool", x(1, 2, 7, 8), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    case("MaxPool", x(1, 2, 9), kernel_shape=[3], strides=[2], pads=[1, 1]),
    case("MaxPool", x(1, 2, 9, 9), kernel_shape=[3, 3], dilations=[2, 2]),
    case("AveragePool", x(1, 2, 9), kernel_shape=[3], strides=[2]),
    case("GlobalAveragePool", x(1, 3, 4, 5)),
    case("GlobalAveragePool", x(1, 3, 4)),
    case("GlobalMaxPool", x(1, 3, 4, 5)),
]

COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric")
RESIZES = [
    *(
        case("Resize", x(1, 2, 4, 5), f(), f(), i(1, 2, *size), opset=19, mode=mode, coordinate_transformation_mode=how)
        for mode, how, size in product(("nearest", "linear", "cubic"), COORDINATES, ((8, 10), (3, 7)))
    ),
    *(
        case("Resize", x(1, 1, 5, 5), f(), f(1, 1, 1.6, 0.7), nearest_mode=rounding)
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    case("Resize", x(1, 2, 4, 4), f(), f(1, 1, 2, 2), opset=11, mode="linear"),
    case("Resize", x(1, 2, 4, 4), f(1, 1, 2, 2), opset=10, mode="nearest"),
    case("Resize", x(1, 2, 4, 4), f(1, 1, 2, 2), opset=10, mode="linear"),
    case("Upsample", x(1, 2, 4, 4), f(1, 1, 2, 2), opset=9, mode="nearest"),
    case("Upsample", x(1, 2, 4, 4), f(1, 1, 2, 2), opset=9, mode="linear"),
    case("Upsample", x(1, 2, 4, 4), opset=8, mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]),
    case("Resize", x(1, 2, 4, 4), None, f(2, 2), opset=18, mode="linear", axes=[2, 3]),
    case("Resize", x(1, 2, 8, 4), None, None, i(4, 4), opset=18, mode="linear", axes=[2, 3],
         keep_aspect_ratio_policy="not_larger"),
    case("Resize", x(1, 2, 4, 4), None, f(1, 1, 2, 2), mode="cubic", cubic_coeff_a=-0.5),
    case("Resize", x(1, 2, 6, 6), None, None, i(1, 2, 9, 4), mode="cubic", exclude_outside=1),
    *(case("Resize", x(1, 2, 8, 9), None, None, i(1, 2, 3, 5), opset=18, mode=mode, antialias=1)
      for mode in ("linear", "cubic")),
]  # fmt: skip


@pytest.mark.parametrize("one", [*MATRICES, *CONVOLUTIONS, *POOLS, *RESIZES])
def test_operator(one: Case) -> None:
    agree(one.model(), one.arrays())
