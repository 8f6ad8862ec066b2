"""The table of ONNX operators: (domain, type) -> function of `op.py`'s kind. One file a family."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from ..op import Table
from . import (
    activations,
    arithmetic,
    attention,
    constants,
    fused,
    indexing,
    linear_maps,
    normalization,
    pooling,
    products,
    quantization,
    recurrent,
    reductions,
    resize,
    sequences,
    views,
)

FAMILIES = (
    activations, arithmetic, attention, constants, fused, indexing, linear_maps, normalization, pooling, products, quantization,
    recurrent, reductions, resize, sequences, views,
)  # fmt: skip

OPERATORS: Table = {key: handler for family in FAMILIES for key, handler in family.OPERATORS.items()}
LISTS = sequences.LISTS


def domain_of(node: NodeProto) -> str:
    """The standard domain has two names."""
    return "" if node.domain == "ai.onnx" else str(node.domain)


def unknown(nodes: Iterable[NodeProto]) -> list[NodeProto]:
    """The nodes whose operators are not in the table."""
    return [node for node in nodes if (domain_of(node), node.op_type) not in OPERATORS]
