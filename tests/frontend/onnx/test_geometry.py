"""Windows of any geometry, drawn at random, give what onnxruntime gives."""

from __future__ import annotations

from typing import Any

import onnxruntime
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpcc.errors import UnsupportedOperator
from tests.models.onnx_build import Case, agree, f, i, weights, x

REFUSED = onnxruntime.capi.onnxruntime_pybind11_state
SETTINGS = settings(max_examples=15, deadline=None, derandomize=True)
PAIRS = st.lists(st.integers(1, 3), min_size=2, max_size=2)
PADS = st.lists(st.integers(0, 1), min_size=4, max_size=4)
AUTO = st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])


def check(one: Case) -> None:
    """Geometries that onnxruntime refuses, or that mpcc refuses by name, are not of interest."""
    try:
        agree(one.model(), one.arrays())
    except (REFUSED.RuntimeException, REFUSED.Fail, REFUSED.InvalidArgument, UnsupportedOperator):
        assume(False)


def padding(auto: str, pads: list[int]) -> dict[str, Any]:
    return {"pads": pads} if auto == "NOTSET" else {"auto_pad": auto}


@given(kernel=PAIRS, strides=PAIRS, dilations=PAIRS, pads=PADS, auto=AUTO, groups=st.sampled_from([1, 2]))
@SETTINGS
def test_convolution(
    kernel: list[int], strides: list[int], dilations: list[int], pads: list[int], auto: str, groups: int
) -> None:
    attributes = {"strides": strides, "dilations": dilations, "group": groups, **padding(auto, pads)}
    check(Case("Conv", (x(1, 4, 9, 8), weights(6, 4 // groups, *kernel), weights(6)), 17, "", 1, attributes))


@given(kernel=PAIRS, strides=PAIRS, pads=PADS, auto=AUTO, extra=st.booleans())
@SETTINGS
def test_transposed_convolution(kernel: list[int], strides: list[int], pads: list[int], auto: str, extra: bool) -> None:
    attributes = {"strides": strides, **padding(auto, pads)}
    if extra and auto == "NOTSET":
        attributes["output_padding"] = [min(1, stride - 1) for stride in strides]
    check(Case("ConvTranspose", (x(1, 2, 5, 4), weights(2, 3, *kernel)), 17, "", 1, attributes))


@given(
    kind=st.sampled_from(["MaxPool", "AveragePool"]),
    kernel=PAIRS,
    strides=PAIRS,
    pads=PADS,
    auto=AUTO,
    ceil=st.sampled_from([0, 1]),
    counted=st.sampled_from([0, 1]),
)
@SETTINGS
def test_pooling(
    kind: str, kernel: list[int], strides: list[int], pads: list[int], auto: str, ceil: int, counted: int
) -> None:
    assume(all(width < size for width, size in zip(pads, kernel * 2, strict=True)))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "ceil_mode": ceil, **padding(auto, pads)}
    if kind == "AveragePool":
        attributes["count_include_pad"] = counted
    check(Case(kind, (x(1, 2, 9, 8),), 19, "", 1, attributes))


@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    how=st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"]),
    rounding=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    size=st.lists(st.integers(1, 11), min_size=2, max_size=2),
    antialias=st.sampled_from([0, 1]),
    outside=st.sampled_from([0, 1]),
)
@SETTINGS
def test_resize(mode: str, how: str, rounding: str, size: list[int], antialias: int, outside: int) -> None:
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": how}
    if mode == "nearest":
        attributes["nearest_mode"] = rounding
    else:
        attributes["antialias"] = antialias
        assume(not antialias or how == "half_pixel")  # the runtime's other antialiased forms differ from the standard
    if mode == "cubic":
        attributes["exclude_outside"] = outside
    check(Case("Resize", (x(1, 2, 5, 6), f(), f(), i(1, 2, *size)), 19, "", 1, attributes))
