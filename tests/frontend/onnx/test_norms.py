"""Normalisations and attention operators, of the standard and of onnxruntime, equal onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.onnx_build import MICROSOFT, Case, agree, case, f, i, weights, x

NORMS = [
    case("LayerNormalization", x(2, 3, 4), weights(4), weights(4, seed=8)),
    case("LayerNormalization", x(2, 3, 4), weights(4), epsilon=1e-3),
    case("LayerNormalization", x(2, 3, 4), weights(3, 4), weights(3, 4, seed=8), axis=1),
    case("LayerNormalization", x(2, 3, 4), weights(4), weights(4, seed=8), outputs=3),
    case("LayerNormalization", x(2, 3, 4), x(4), x(4)),
    case("RMSNormalization", x(2, 3, 4), weights(4), opset=23),
    case("RMSNormalization", x(2, 3, 4), weights(3, 4), opset=23, axis=1, epsilon=1e-3),
    case("SimplifiedLayerNormalization", x(2, 3, 4), weights(4)),
    case("InstanceNormalization", x(2, 3, 4, 4), weights(3), weights(3, seed=8)),
    case("GroupNormalization", x(2, 6, 4), weights(6), weights(6, seed=8), opset=21, num_groups=3),
    case("BatchNormalization", x(2, 3, 4, 4), weights(3), weights(3, seed=8), weights(3, seed=9), f(1, 2, 0.5)),
    case("BatchNormalization", x(2, 3), weights(3), weights(3, seed=8), weights(3, seed=9), f(1, 2, 0.5), opset=11),
    case("SkipLayerNormalization", x(2, 3, 4), x(2, 3, 4), weights(4), weights(4, seed=8), domain=MICROSOFT,
         epsilon=1e-5),
    case("SkipLayerNormalization", x(2, 3, 4), weights(2, 3, 4), weights(4), None, weights(4, seed=8),
         domain=MICROSOFT),
    case("SkipSimplifiedLayerNormalization", x(2, 3, 4), x(2, 3, 4), weights(4), domain=MICROSOFT, epsilon=1e-5),
]  # fmt: skip

HEADS = {"q_num_heads": 2, "kv_num_heads": 2}
STANDARD = [
    case("Attention", x(1, 2, 3, 4), x(1, 2, 5, 4), x(1, 2, 5, 4), opset=23),
    case("Attention", x(1, 2, 3, 4), x(1, 2, 5, 4), x(1, 2, 5, 6), weights(3, 5), opset=23, scale=0.3),
    case("Attention", x(1, 2, 3, 4), x(1, 2, 5, 4), x(1, 2, 5, 4), np.eye(3, 5) < 1, opset=23),
    case("Attention", x(1, 2, 4, 4), x(1, 2, 4, 4), x(1, 2, 4, 4), opset=23, is_causal=1),
    case("Attention", x(1, 3, 8), x(1, 5, 8), x(1, 5, 8), opset=23, **HEADS),
    case("Attention", x(1, 4, 3, 4), x(1, 2, 5, 4), x(1, 2, 5, 4), opset=23),
    case("Attention", x(1, 2, 3, 4), x(1, 2, 5, 4), x(1, 2, 5, 4), opset=23, softcap=0.5),
]

RUNTIME = [
    case("Attention", x(1, 3, 8), weights(8, 24), weights(24), domain=MICROSOFT, num_heads=2),
    case("Attention", x(1, 3, 8), weights(8, 24), weights(24), domain=MICROSOFT, num_heads=2, scale=0.2),
    case("Attention", x(2, 3, 8), weights(8, 24), weights(24), np.array([[1, 1, 0], [1, 1, 1]], np.int32),
         domain=MICROSOFT, num_heads=2),
    case("Attention", x(2, 3, 8), weights(8, 24), weights(24), np.array([2, 3], np.int32), domain=MICROSOFT,
         num_heads=2),
    case("Attention", x(1, 3, 8), weights(8, 24), weights(24), None, None, weights(1, 2, 3, 3), domain=MICROSOFT,
         num_heads=2),
    case("Attention", x(1, 3, 8), weights(8, 24), weights(24), domain=MICROSOFT, num_heads=2, unidirectional=1),
    case("Attention", x(1, 3, 8), weights(8, 20), weights(20), domain=MICROSOFT, num_heads=2,
         qkv_hidden_sizes=[8, 8, 4]),
    case("MultiHeadAttention", x(1, 3, 8), x(1, 5, 8), x(1, 5, 8), domain=MICROSOFT, num_heads=2),
    case("MultiHeadAttention", x(1, 3, 8), x(1, 5, 8), x(1, 5, 8), weights(24), domain=MICROSOFT, num_heads=2),
    case("MultiHeadAttention", x(1, 3, 8), x(1, 3, 8), x(1, 3, 8), None, None, weights(1, 2, 3, 3),
         domain=MICROSOFT, num_heads=2, scale=0.4),
    case("MultiHeadAttention", x(1, 3, 8), x(1, 2, 5, 4), x(1, 2, 5, 4), domain=MICROSOFT, num_heads=2),
    case("RotaryEmbedding", x(1, 3, 8), i([0, 2, 1]), weights(4, 2), weights(4, 2, seed=8), domain=MICROSOFT,
         num_heads=2),
    case("RotaryEmbedding", x(1, 2, 3, 4), i(1), weights(4, 2), weights(4, 2, seed=8), domain=MICROSOFT),
    case("RotaryEmbedding", x(1, 2, 3, 4), i([0, 1, 2]), weights(4, 2), weights(4, 2, seed=8), domain=MICROSOFT,
         interleaved=1),
    case("RotaryEmbedding", x(1, 2, 3, 4), weights(4, 2), weights(4, 2, seed=8), i([0, 2, 1]), opset=23),
    case("RotaryEmbedding", x(1, 2, 3, 4), weights(1, 3, 2), weights(1, 3, 2, seed=8), opset=23, interleaved=1),
    case("RotaryEmbedding", x(1, 2, 3, 6), weights(4, 2), weights(4, 2, seed=8), i([0, 2, 1]), opset=23,
         rotary_embedding_dim=4),
]  # fmt: skip


@pytest.mark.parametrize("one", [*NORMS, *STANDARD, *RUNTIME])
def test_operator(one: Case) -> None:
    agree(one.model(), one.arrays(), 2e-5)
