"""Normalisation: layer, rms and group norm stay whole; batch norm is a multiplication and an addition of constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from ..builder import Builder
from ..values import Constant, Decline, Rules, Value, rank, shape, sources_of

aten = torch.ops.aten

BATCH_NORM = "batch_norm"  # marks the two nodes that a batch norm became, so that they can be folded into a product


def layer_norm(
    b: Builder, x: Value, sizes: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *rest: Any
) -> Any:
    return b.emit(aten.layer_norm.default, x, list(sizes), weight, bias, eps)


def native_layer_norm(b: Builder, *args: Any) -> Any:
    return [layer_norm(b, *args), None, None]


def rms_norm(b: Builder, x: Value, sizes: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    # torch's own default is the float type's epsilon
    return b.emit(aten.rms_norm.default, x, list(sizes), weight, torch.finfo(torch.float32).eps if eps is None else eps)


def group_norm(
    b: Builder, x: Value, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *rest: Any
) -> Any:
    return b.emit(aten.group_norm.default, x, groups, weight, bias, eps)


def native_group_norm(
    b: Builder, x: Value, weight: Any, bias: Any, n: int, c: int, hw: int, groups: int, eps: float
) -> Any:
    return [group_norm(b, x, groups, weight, bias, eps), None, None]


def instance_norm(
    b: Builder, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, use_input: bool, momentum: float,
    eps: float, *rest: Any,
) -> Any:  # fmt: skip
    if not use_input:
        return batch_norm(b, x, weight, bias, mean, variance, False, momentum, eps)
    return group_norm(b, x, shape(x)[1], weight, bias, eps)


def batch_norm(
    b: Builder, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5, *rest: Any,
) -> Any:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * weight + bias, all but x constant, along axis 1.

    In training mode, or without stored statistics, it is decomposed: it then takes the statistics of its batch.
    """
    if training or mean is None or variance is None:
        raise Decline("a batch norm by the statistics of its batch")
    if any(isinstance(item, fx.Node) for item in (weight, bias, mean, variance)):
        raise Decline("a batch norm whose parameters depend on the input")
    along = [-1, *[1] * (rank(x) - 2)]
    scale = (variance.value.double() + eps).rsqrt()
    shift = -mean.value.double() * scale
    if weight is not None:
        scale, shift = scale * weight.value, shift * weight.value
    if bias is not None:
        shift = shift + bias.value
    trainable = weight is not None and weight.trainable
    stem = mean.stem.rpartition(".")[0] if mean.stem else None
    made_of = sources_of(mean, variance, weight, bias)
    scaled = b.mul(x, _parameter(scale.reshape(along), stem, "scale", trainable, made_of))
    scaled.meta[BATCH_NORM] = True
    shifted = b.add(scaled, _parameter(shift.reshape(along), stem, "shift", trainable, made_of))
    shifted.meta[BATCH_NORM] = True
    return shifted


def _parameter(
    value: torch.Tensor, stem: str | None, what: str, trainable: bool, made_of: frozenset[str] | None
) -> Constant:
    return Constant(value.float(), stem=f"{stem}.{what}" if stem else what, trainable=trainable, made_of=made_of)


def native_batch_norm(b: Builder, x: Value, *args: Any) -> Any:
    return [batch_norm(b, x, *args), None, None]


def _no_training(
    b: Builder, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Any:
    return [batch_norm(b, x, weight, bias, mean, variance, False, momentum, eps), None, None]


RULES: Rules = {
    aten.layer_norm.default: layer_norm,
    aten.native_layer_norm.default: native_layer_norm,
    aten.rms_norm.default: rms_norm,
    aten.group_norm.default: group_norm,
    aten.native_group_norm.default: native_group_norm,
    aten.instance_norm.default: instance_norm,
    aten.batch_norm.default: batch_norm,
    aten.native_batch_norm.default: native_batch_norm,
    aten._native_batch_norm_legit_no_training.default: _no_training,
}
