"""A product with constant weights as rows: what it reads and what it gives, so that its weights are a least-squares problem.

    linear       [..., in], [..., out]                rows x in, rows x out
    convolution  [batch, in, h, w] or [batch, in, l]  a row for every place, in / groups * kh * kw features for each group
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

aten = torch.ops.aten


def weight_of(node: fx.Node) -> fx.Node | None:
    """The constant weight of a linear layer or a convolution of one or two dimensions; None where `node` is none of these."""
    if node.target not in (aten.linear.default, aten.convolution.default):
        return None
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or weight.op != "get_attr":
        return None
    if node.target is aten.convolution.default and (node.args[6] or weight.meta["val"].dim() not in (3, 4)):
        return None
    return weight


def bias_of(node: fx.Node) -> fx.Node | None:
    """The constant bias of a product, None where it has none."""
    bias = node.args[2] if len(node.args) > 2 else None
    return bias if isinstance(bias, fx.Node) else None


def groups_of(node: fx.Node) -> int:
    """Parts of the channels that are computed apart from each other."""
    args: Any = node.args
    return int(args[8]) if node.target is aten.convolution.default else 1


def read_rows(node: fx.Node, x: Tensor) -> Tensor:
    """[groups, rows, features] of what the product reads; `x` [calls, *shape]. Rows of one call stand together."""
    args: Any = node.args
    if node.target is aten.linear.default:
        return x.reshape(1, -1, x.shape[-1])
    images, kernel = x.flatten(0, 1), tuple(node.args[1].meta["val"].shape[2:])  # type: ignore[union-attr]
    stride, padding, dilation = (tuple(one) for one in args[3:6])
    if len(kernel) == 1:
        images, kernel = images.unsqueeze(2), (1, *kernel)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    found = functional.unfold(images, kernel, dilation, padding, stride)
    groups = groups_of(node)  # [images, features, places]
    return found.reshape(len(found), groups, -1, found.shape[-1]).permute(1, 0, 3, 2).flatten(1, 2)


def given_rows(node: fx.Node, y: Tensor) -> Tensor:
    """[groups, rows, outputs] of what the product gives; `y` [calls, *shape]."""
    if node.target is aten.linear.default:
        return y.reshape(1, -1, y.shape[-1])
    groups, images = groups_of(node), y.flatten(0, 1)
    return images.reshape(len(images), groups, images.shape[1] // groups, -1).permute(1, 0, 3, 2).flatten(1, 2)


def as_matrix(node: fx.Node, weight: Tensor) -> Tensor:
    """[groups, features, outputs] of a weight."""
    return weight.reshape(groups_of(node), weight.shape[0] // groups_of(node), -1).transpose(1, 2)


def as_weight(node: fx.Node, matrix: Tensor) -> Tensor:
    """The weight from [groups, features, outputs]."""
    return matrix.transpose(1, 2).reshape(node.args[1].meta["val"].shape)  # type: ignore[union-attr]
