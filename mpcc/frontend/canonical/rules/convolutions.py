"""Convolutions: conv1d/2d/3d and transposed ones become `convolution`, which is never transposed here.

A weight that depends on the input, a transposed convolution with kernel = stride, and other transposed convolutions are
written as products of windows, as a 1 x 1 convolution, and as a convolution of an image with zeros between its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import fx

from ..builder import Builder
from ..values import Constant, Decline, Rules, Value, rank, shape
from .products import is_weight

aten = torch.ops.aten


def convolution(
    b: Builder, x: Value, weight: Value, bias: Value | None, stride: Sequence[int], padding: Sequence[int] | str,
    dilation: Sequence[int], transposed: bool = False, output_padding: Sequence[int] = (0,), groups: int = 1,
    *rest: Any,
) -> Any:  # fmt: skip
    space = rank(weight) - 2
    if rank(x) == space + 1:
        whole = convolution(
            b, b.reshape(x, [1, *shape(x)]), weight, bias, stride, padding, dilation, transposed, output_padding, groups
        )
        return b.reshape(whole, shape(whole)[1:])

    def each(value: Sequence[int]) -> list[int]:
        return list(value) * space if len(value) == 1 else list(value)

    stride, dilation, output_padding = each(stride), each(dilation), each(output_padding)
    if isinstance(padding, str):
        x, padding = _named_padding(b, x, padding, shape(weight)[2:], dilation)
    if transposed:
        return transposed_convolution(b, x, weight, bias, stride, each(padding), dilation, output_padding, groups)
    if isinstance(weight, fx.Node) and not is_weight(weight):
        if space != 2:
            raise Decline("a convolution over other than two axes whose weight depends on the input")
        return dynamic_convolution(b, x, weight, bias, stride, each(padding), dilation, groups)
    return b.emit(
        aten.convolution.default, x, weight, bias, stride, each(padding), dilation, transposed, output_padding, groups
    )


def transposed_convolution(
    b: Builder, x: Value, weight: Value, bias: Value | None, stride: list[int], padding: list[int],
    dilation: list[int], output_padding: list[int], groups: int,
) -> Any:  # fmt: skip
    """weight [in, out / groups, ..]. Zeros are put between the pixels and around; then the mirrored kernel slides."""
    if isinstance(weight, fx.Node):
        raise Decline("a transposed convolution whose weight is not a parameter")
    space, kernel = rank(weight) - 2, shape(weight)[2:]
    grouped = weight.value.reshape(groups, -1, *shape(weight)[1:])
    inner = grouped.transpose(1, 2).flatten(0, 1)  # [out, in / groups, ..]
    plain = groups == 1 and not any(padding) and not any(output_padding) and all(step == 1 for step in dilation)
    if plain and list(kernel) == stride:
        return _patches(b, x, inner, weight, bias)
    mirrored = weight.became(inner.flip(list(range(2, 2 + space))).contiguous(), trainable=weight.trainable)
    for i in range(space):
        x = _spread(b, x, 2 + i, stride[i])
    reach = [step * (size - 1) - p for step, size, p in zip(dilation, kernel, padding, strict=True)]
    pads = [part for i in reversed(range(space)) for part in (reach[i], reach[i] + output_padding[i])]
    x = b.do(aten.constant_pad_nd.default, x, pads)
    return convolution(b, x, mirrored, bias, [1] * space, [0] * space, dilation, False, [0] * space, groups)


def _spread(b: Builder, x: Value, dim: int, step: int) -> Any:
    """x with step - 1 zeros between its values along `dim`."""
    if step == 1:
        return x
    sizes = shape(x)
    apart = b.reshape(x, [*sizes[: dim + 1], 1, *sizes[dim + 1 :]])
    behind = [0, 0] * (len(sizes) - dim - 1) + [0, step - 1]
    filled = b.do(aten.constant_pad_nd.default, apart, behind)
    flat = b.reshape(filled, [*sizes[:dim], sizes[dim] * step, *sizes[dim + 1 :]])
    return b.slice(flat, dim, 0, (sizes[dim] - 1) * step + 1)


def _patches(b: Builder, x: Value, inner: torch.Tensor, weight: Constant, bias: Value | None) -> Any:
    """Each pixel becomes a patch of its own: a 1 x 1 convolution to out * k channels, then the patches laid out.

    A weight [out, in, k1, k2] -> [out k1 k2, in, 1, 1].
    """
    out, _, *kernel = inner.shape
    space, area = len(kernel), prod(kernel)
    flat = inner.movedim(1, -1).reshape(out * area, -1, *[1] * space).contiguous()
    ones = [1] * space
    made = convolution(
        b, x, weight.became(flat, trainable=weight.trainable), None, ones, [0] * space, ones, False, [0] * space, 1
    )
    n, _, *sizes = shape(made)
    apart = b.reshape(made, [n, out, *kernel, *sizes])
    order = [0, 1] + [axis for i in range(space) for axis in (2 + space + i, 2 + i)]
    laid = b.reshape(b.permute(apart, order), [n, out, *(size * k for size, k in zip(sizes, kernel, strict=True))])
    return laid if bias is None else b.add(laid, b.reshape(bias, [-1, *ones]))


def dynamic_convolution(
    b: Builder, x: Value, weight: Value, bias: Value | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int,
) -> Any:  # fmt: skip
    """A weight that depends on the input: a product of each group's windows [c k, places] with [out, c k]."""
    n, _, high, wide = shape(x)
    out, _, *kernel = shape(weight)
    sizes = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip((high, wide), padding, dilation, kernel, stride, strict=True)
    ]
    windows = b.do(aten.im2col.default, x, kernel, list(dilation), list(padding), list(stride))
    windows = b.reshape(windows, [n, groups, -1, sizes[0] * sizes[1]])
    made = b.matmul(b.reshape(weight, [groups, out // groups, -1]), windows)
    made = b.reshape(made, [n, out, *sizes])
    return made if bias is None else b.add(made, b.reshape(bias, [-1, 1, 1]))


def _named_padding(
    b: Builder, x: Value, padding: str, kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[Any, list[int]]:
    if padding == "valid":
        return x, [0] * len(kernel)
    totals = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
    if all(total % 2 == 0 for total in totals):
        return x, [total // 2 for total in totals]
    pads = [part for total in reversed(totals) for part in (total // 2, total - total // 2)]
    return b.do(aten.constant_pad_nd.default, x, pads), [0] * len(kernel)


def conv(
    b: Builder, x: Value, weight: Value, bias: Value | None = None, stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,), dilation: Sequence[int] = (1,), groups: int = 1,
) -> Any:  # fmt: skip
    return convolution(b, x, weight, bias, stride, padding, dilation, False, (0,), groups)


def conv_transpose(
    b: Builder, x: Value, weight: Value, bias: Value | None = None, stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,), output_padding: Sequence[int] = (0,), groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Any:  # fmt: skip
    return convolution(b, x, weight, bias, stride, padding, dilation, True, output_padding, groups)


RULES: Rules = {
    **dict.fromkeys((aten.convolution.default, aten._convolution.default), convolution),
    **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), conv),
    **dict.fromkeys((aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding), conv),
    **dict.fromkeys(
        (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input), conv_transpose
    ),
}
