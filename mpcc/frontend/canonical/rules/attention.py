"""Attention: softmax(q k^T scale + mask) v, spelt out in matmuls and one softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from ..builder import Builder
from ..number_kinds import is_bit
from ..values import Constant, Rules, Value, shape
from .arithmetic import MASKED_SCORE, bounded_constant

aten = torch.ops.aten


def scaled_dot_product_attention(
    b: Builder, query: Value, key: Value, value: Value, mask: Value | None = None, dropout: float = 0.0,
    causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """q [.., heads, query, d], k and v [.., heads, key, d] -> [.., heads, query, d]."""
    if enable_gqa:
        times = shape(query)[-3] // shape(key)[-3]
        key, value = (b.do(aten.repeat_interleave.self_int, part, times, -3) for part in (key, value))
    scale = 1 / math.sqrt(shape(query)[-1]) if scale is None else scale
    scores = b.mul(b.matmul(query, b.swap(key, -2, -1)), scale)
    if causal:
        allowed = torch.ones(shape(query)[-2], shape(key)[-2], dtype=torch.bool).tril()
        mask = Constant(allowed)
    if mask is not None:
        scores = b.add(scores, additive(b, mask))
    result = b.matmul(b.do(aten.softmax.int, scores, -1), value)
    if isinstance(mask, Constant) and not mask.trainable:  # a query that may see no key gets 0
        seen = (additive_value(b, mask) > MASKED_SCORE).any(-1, keepdim=True)
        result = result if bool(seen.all()) else b.mul(result, Constant(seen.float()))
    return result


def additive_value(b: Builder, mask: Constant) -> torch.Tensor:
    made = additive(b, mask)
    assert isinstance(made, Constant)
    return made.value


def additive(b: Builder, mask: Value) -> Value:
    """0 where attention is allowed and a very small number elsewhere; float masks as they are, but bounded.

    Of a secret mask nobody can see whether it leaves a query any key; where it does not, all keys count alike.
    """
    if isinstance(mask, fx.Node):
        return b.add(b.mul(mask, -MASKED_SCORE), MASKED_SCORE) if is_bit(mask) else mask
    if mask.trainable:
        return mask
    if mask.value.dtype == torch.bool:
        return mask.became(torch.where(mask.value, 0.0, MASKED_SCORE))
    return bounded_constant(mask)


def attention_for_cpu(b: Builder, query: Value, key: Value, value: Value, *rest: Any, **options: Any) -> Any:
    """The fused kernel's form: dropout and causal, then options; the second result is only for gradients."""
    dropout, causal = (*rest, 0.0, False)[:2] if len(rest) < 2 else rest[:2]
    return [
        scaled_dot_product_attention(
            b, query, key, value, options.get("attn_mask"), dropout, causal, scale=options.get("scale")
        ),
        None,
    ]


RULES: Rules = {
    aten.scaled_dot_product_attention.default: scaled_dot_product_attention,
    aten._scaled_dot_product_flash_attention_for_cpu.default: attention_for_cpu,
}
