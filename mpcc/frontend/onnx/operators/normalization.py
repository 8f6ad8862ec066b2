"""Normalisations, kept whole: layer, group, instance, root-mean-square, batch norm; and the runtime's fused forms."""

from __future__ import annotations

from torch import fx

from ..op import MICROSOFT, Op, Table, rank, shape_of
from ..recorder import Value, aten
from .views import broadcast


def layer_normalization(op: Op, x: Value, scale: Value, bias: Value | None = None) -> Value | tuple[Value, ...]:
    """Over all axes from `axis` on. The outputs mean and inverse deviation are computed only if someone reads them."""
    axis = op.axis(-1, rank(x))
    epsilon = op.number("epsilon", 1e-5)
    y = layer_norm(op, x, scale, bias, axis, epsilon)
    if not op.wants(1) and not op.wants(2):
        return y
    axes = list(range(axis, rank(x)))
    mean = op.call(aten.mean.dim, x, axes, True)
    variance = op.call(aten.mean.dim, op.call(aten.pow.Tensor_Scalar, op.sub(x, mean), 2), axes, True)
    return y, mean, op.call(aten.rsqrt.default, op.add(variance, epsilon))


def layer_norm(op: Op, x: Value, scale: Value, bias: Value | None, axis: int, epsilon: float) -> Value:
    shape = list(shape_of(x)[axis:])
    weights = [None if weight is None else broadcast(op, weight, shape) for weight in (scale, bias)]
    return op.call(aten.layer_norm.default, x, shape, *weights, epsilon)


def rms_normalization(op: Op, x: Value, scale: Value, bias: Value | None = None) -> Value | tuple[Value, ...]:
    axis = op.axis(-1, rank(x))
    y = rms_norm(op, x, scale, axis, op.number("epsilon", 1e-5))
    if op.wants(1) or op.wants(2):
        op.refuse("its statistics are read by another node")
    return y if bias is None else op.add(y, bias)


def rms_norm(op: Op, x: Value, scale: Value, axis: int, epsilon: float) -> Value:
    shape = list(shape_of(x)[axis:])
    return op.call(aten.rms_norm.default, x, shape, broadcast(op, scale, shape), epsilon)


def skip_layer_normalization(
    op: Op, x: Value, skip: Value, gamma: Value, beta: Value | None = None, bias: Value | None = None
) -> tuple[Value, ...]:
    """norm(x + skip + bias); the fourth output is the sum."""
    total = _skipped(op, x, skip, bias)
    return _only_sum(op, layer_norm(op, total, gamma, beta, rank(x) - 1, op.number("epsilon", 1e-12)), total)


def skip_rms_normalization(op: Op, x: Value, skip: Value, gamma: Value, bias: Value | None = None) -> tuple[Value, ...]:
    total = _skipped(op, x, skip, bias)
    return _only_sum(op, rms_norm(op, total, gamma, rank(x) - 1, op.number("epsilon", 1e-12)), total)


def _skipped(op: Op, x: Value, skip: Value, bias: Value | None) -> Value:
    total = op.add(x, skip)
    return total if bias is None else op.add(total, bias)


def _only_sum(op: Op, y: Value, total: Value) -> tuple[Value, ...]:
    if op.wants(1) or op.wants(2):
        op.refuse("its mean and inverse deviation are read by another node")
    return y, y, y, total


def instance_normalization(op: Op, x: Value, scale: Value, bias: Value) -> Value:
    """Group norm with a channel a group."""
    return _group_norm(op, x, shape_of(x)[1], scale, bias, op.number("epsilon", 1e-5))


def group_normalization(op: Op, x: Value, scale: Value, bias: Value) -> Value:
    """Scale and bias are one a group before opset 21, one a channel since."""
    groups, channels = op.integer("num_groups"), shape_of(x)[1]
    if op.version < 21 and shape_of(scale)[0] == groups != channels:
        each = channels // groups
        scale, bias = (
            op.reshape(broadcast(op, op.reshape(weight, [groups, 1]), [groups, each]), [channels])
            for weight in (scale, bias)
        )
    return _group_norm(op, x, groups, scale, bias, op.number("epsilon", 1e-5))


def _group_norm(op: Op, x: Value, groups: int, scale: Value, bias: Value, epsilon: float) -> Value:
    return op.call(aten.group_norm.default, x, groups, scale, bias, epsilon)


def batch_normalization(op: Op, x: Value, scale: Value, bias: Value, mean: Value, variance: Value) -> Value:
    """The statistics are buffers: nothing trains them."""
    if op.flag("training_mode") or op.wants(1):
        op.refuse("the model was exported in training mode", "call model.eval() before the export")
    for statistic in (mean, variance):
        if isinstance(statistic, fx.Node) and statistic.op == "get_attr":
            op.recorder.buffers.add(str(statistic.target))
    epsilon, momentum = op.number("epsilon", 1e-5), op.number("momentum", 0.9)
    return op.call(aten.batch_norm.default, x, scale, bias, mean, variance, False, 1.0 - momentum, epsilon, False)


OPERATORS: Table = {
    ("", "LayerNormalization"): layer_normalization,
    ("", "RMSNormalization"): rms_normalization,
    ("", "SimplifiedLayerNormalization"): rms_normalization,
    (MICROSOFT, "SkipLayerNormalization"): skip_layer_normalization,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): skip_rms_normalization,
    ("", "InstanceNormalization"): instance_normalization,
    ("", "GroupNormalization"): group_normalization,
    ("", "BatchNormalization"): batch_normalization,
}
