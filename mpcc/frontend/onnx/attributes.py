"""Every attribute of a node is used or refused: what its handler did not ask for must be without effect.

Without effect are an attribute at its default, one of another form of the operator (a coefficient of cubic resizing where
the mode is linear), and hints to the runtime.
"""

from __future__ import annotations

import onnx
from onnx import AttributeProto, NodeProto

from .op import Op

# (operator, attribute): why it may be ignored where it is not asked for. None stands for every operator.
WITHOUT_EFFECT: dict[tuple[str | None, str], str] = {
    (None, "consumed_inputs"): "a hint to old runtimes",
    ("BatchNormalization", "momentum"): "training alone",
    ("BatchNormalization", "spatial"): "true wherever the shapes fit",
    ("Dropout", "ratio"): "training alone",
    ("Dropout", "seed"): "training alone",
    ("Resize", "cubic_coeff_a"): "the cubic mode alone",
    ("Resize", "nearest_mode"): "the nearest mode alone",
    ("Resize", "exclude_outside"): "the cubic mode alone",
    ("Resize", "antialias"): "the linear and the cubic mode alone",
    ("Resize", "extrapolation_value"): "cropping alone, which is refused",
    ("Resize", "coordinate_transformation_mode"): "axes that keep their size alone",
    ("Attention", "softmax_precision"): "the precision of a part",
    ("Attention", "mask_filter_value"): "masks that are not given",
    ("MultiHeadAttention", "mask_filter_value"): "masks that are not given",
    ("LayerNormalization", "stash_type"): "the precision of a part",
    ("RMSNormalization", "stash_type"): "the precision of a part",
    ("GroupNormalization", "stash_type"): "the precision of a part",
    ("SimplifiedLayerNormalization", "stash_type"): "the precision of a part",
    ("Range", "stash_type"): "the precision of a part",
    ("Cast", "round_mode"): "narrow floats alone",
    ("CastLike", "round_mode"): "narrow floats alone",
    ("CastLike", "saturate"): "narrow floats alone",
    ("Pad", "value"): "the constant mode alone",
    ("Cast", "saturate"): "narrow floats alone",
    ("Conv", "kernel_shape"): "what the weight says",
    ("ConvTranspose", "kernel_shape"): "what the weight says",
    ("FusedConv", "kernel_shape"): "what the weight says",
    ("MaxPool", "storage_order"): "indices alone, which are refused",
}


def refuse_unasked(op: Op) -> None:
    """UnsupportedOperator that names an attribute which the handler of `op` did not ask for, unless it is without effect."""
    for attribute in op.unasked():
        names = {(op.node.op_type, attribute.name), (None, attribute.name)}
        if names & WITHOUT_EFFECT.keys() or attribute.name.startswith("_") or _is_default(op.node, op.version, attribute):
            continue
        op.refuse(f"the attribute {attribute.name} is not supported", "Export the model without it.")


def _is_default(node: NodeProto, version: int, attribute: AttributeProto) -> bool:
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        schema = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        return False
    known = schema.attributes.get(attribute.name)
    if known is None or not known.default_value.name:
        return False
    return bool(onnx.helper.get_attribute_value(known.default_value) == onnx.helper.get_attribute_value(attribute))
