"""Attention operators, spelled out as products and a softmax: of the standard (opset 23) and of the runtime.

Shapes: scores [batch, heads, query, key]. Sources: onnx/onnx docs/Operators.md (Attention, RotaryEmbedding);
microsoft/onnxruntime docs/ContribOperators.md.
"""

from __future__ import annotations

import math

import torch

from ..op import MICROSOFT, Op, Table, dtype_of, rank, shape_of
from ..recorder import Value, aten
from .products import product
from .views import cut, pieces


def attend(op: Op, q: Value, k: Value, v: Value, scale: float, bias: list[Value], softcap: float = 0.0) -> Value:
    """softmax(scale q k^T + biases) v, all [batch, heads, tokens, size]; fewer key heads are repeated."""
    k, v = (_repeat_heads(op, item, shape_of(q)[1]) for item in (k, v))
    scores = op.mul(op.call(aten.matmul.default, q, op.permute(k, [0, 1, 3, 2])), scale)
    if softcap:
        scores = op.mul(op.call(aten.tanh.default, op.mul(scores, 1 / softcap)), softcap)
    for item in bias:
        scores = op.add(scores, item)
    y = op.call(aten.matmul.default, op.call(aten.softmax.int, scores, 3), v)
    open_rows = _open_rows(bias)
    return y if open_rows is None else op.mul(y, open_rows)


def _open_rows(bias: list[Value]) -> torch.Tensor | None:
    """0 for the queries that may see no key, whose answer is 0; None where every query sees one."""
    known = [item for item in bias if isinstance(item, torch.Tensor)]
    if not known:
        return None
    total = known[0] if len(known) == 1 else known[0] + known[1]
    seen = (total != -math.inf).any(-1, keepdim=True)
    return None if bool(seen.all()) else seen.to(total.dtype)


def _repeat_heads(op: Op, x: Value, heads: int) -> Value:
    batch, have, tokens, size = shape_of(x)
    if have == heads:
        return x
    apart = op.reshape(x, [batch, have, 1, tokens, size])
    many = op.call(aten.expand.default, apart, [batch, have, heads // have, tokens, size])
    return op.reshape(many, [batch, heads, tokens, size])


def heads_first(op: Op, x: Value, heads: int) -> Value:
    """[batch, tokens, heads * size] -> [batch, heads, tokens, size]"""
    batch, tokens, width = shape_of(x)
    return op.permute(op.reshape(x, [batch, tokens, heads, width // heads]), [0, 2, 1, 3])


def heads_joined(op: Op, x: Value) -> Value:
    batch, heads, tokens, size = shape_of(x)
    return op.reshape(op.permute(x, [0, 2, 1, 3]), [batch, tokens, heads * size])


def causal(queries: int, keys: int) -> torch.Tensor:
    """Minus infinity for the keys after the query."""
    return torch.full((queries, keys), -math.inf).triu(1)


def attention(
    op: Op,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    past_key: Value | None = None,
    past_value: Value | None = None,
    lengths: Value | None = None,
) -> tuple[Value, ...]:
    """The standard's: three or four axes; a mask of booleans (True takes part) or of numbers that are added."""
    if past_key is not None or lengths is not None or op.wants(3):
        op.refuse("a cache of keys, or reading the scores, is not supported")
    flat = rank(q) == 3
    if flat:
        q = heads_first(op, q, op.integer("q_num_heads"))
        k, v = (heads_first(op, item, op.integer("kv_num_heads")) for item in (k, v))
    scale = op.number("scale") if op.has("scale") else 1 / math.sqrt(shape_of(q)[-1])
    bias: list[Value] = [] if mask is None else [as_bias(op, mask)]
    if op.flag("is_causal"):
        bias.append(causal(shape_of(q)[2], shape_of(k)[2]))
    if op.number("softcap") and bias:
        op.refuse("softcap together with a mask is not supported")
    y = attend(op, q, k, v, scale, bias, op.number("softcap"))
    return heads_joined(op, y) if flat else y, k, v


def as_bias(op: Op, mask: Value) -> Value:
    """Booleans as zero and minus infinity; numbers as they are."""
    if dtype_of(mask) != torch.bool:
        return mask
    return op.call(aten.where.self, mask, torch.tensor(0.0), torch.tensor(-math.inf))


def packed_attention(
    op: Op,
    x: Value,
    weights: Value,
    bias: Value | None = None,
    mask: Value | None = None,
    past: Value | None = None,
    added: Value | None = None,
    past_length: Value | None = None,
) -> Value:
    """The runtime's Attention: one weight matrix [width, q + k + v] for all three."""
    if past is not None or op.wants(1) or op.flag("do_rotary"):
        op.refuse("a cache of keys and rotary embedding inside of attention are not supported")
    heads = op.integer("num_heads")
    joined = product(op, x, weights)
    joined = joined if bias is None else op.add(joined, bias)
    widths = op.integers("qkv_hidden_sizes") or [shape_of(joined)[-1] // 3] * 3
    q, k, v = (heads_first(op, part, heads) for part in pieces(op, joined, 2, widths))
    return _runtime_attend(op, q, k, v, mask, added)


def multi_head_attention(
    op: Op,
    query: Value,
    key: Value | None = None,
    value: Value | None = None,
    bias: Value | None = None,
    mask: Value | None = None,
    added: Value | None = None,
    *caches: Value | None,
) -> Value:
    """The runtime's: q, k, v apart, or packed [batch, tokens, heads, 3, size], or keys packed with values."""
    if any(cache is not None for cache in caches) or op.wants(1):
        op.refuse("a cache of keys is not supported")
    heads = op.integer("num_heads")
    if key is None:
        q, k, v = _unpack(op, query)
    elif value is None:
        q, (k, v) = heads_first(op, query, heads), _unpack(op, key)
    else:
        q = heads_first(op, query, heads)
        k, v = (item if rank(item) == 4 else heads_first(op, item, heads) for item in (key, value))
    if bias is not None:
        widths = [shape_of(item)[1] * shape_of(item)[3] for item in (q, k, v)]
        parts = pieces(op, bias, 0, widths)
        q, k, v = (op.add(item, _bias_of(op, part, heads)) for item, part in zip((q, k, v), parts, strict=True))
    return _runtime_attend(op, q, k, v, mask, added)


def _unpack(op: Op, x: Value) -> tuple[Value, ...]:
    """[batch, tokens, heads, parts, size] -> parts of [batch, heads, tokens, size]"""
    parts = [op.call(aten.select.int, x, 3, place) for place in range(shape_of(x)[3])]
    return tuple(op.permute(part, [0, 2, 1, 3]) for part in parts)


def _bias_of(op: Op, bias: Value, heads: int) -> Value:
    return op.reshape(bias, [1, heads, 1, shape_of(bias)[0] // heads])


def _runtime_attend(op: Op, q: Value, k: Value, v: Value, mask: Value | None, added: Value | None) -> Value:
    biases: list[Value] = [] if added is None else [added]
    if mask is not None:
        biases += _key_mask(op, op.known(mask, "the attention mask"), shape_of(k)[2])
    if op.flag("unidirectional"):
        biases.append(causal(shape_of(q)[2], shape_of(k)[2]))
    scale = op.number("scale") or 1 / math.sqrt(shape_of(q)[-1])
    return heads_joined(op, attend(op, q, k, v, scale, biases))


def _key_mask(op: Op, mask: torch.Tensor, keys: int) -> list[Value]:
    """1 takes part: [batch, key], [batch, query, key], or the number of keys of each [batch]."""
    if mask.dim() == 1:
        mask = torch.arange(keys)[None, :] < mask[:, None]
    if mask.dim() not in (2, 3):
        op.refuse(f"an attention mask with {mask.dim()} axes is not supported")
    mask = mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]
    if bool(mask.bool().all()):
        return []
    filler = op.number("mask_filter_value", -10000.0)
    return [torch.where(mask.bool(), 0.0, filler)]


def rotary_embedding(op: Op, x: Value, cos: Value, sin: Value, positions: Value | None = None) -> Value:
    """Pairs of elements turned by an angle of their token."""
    return _rotate(op, x, cos, sin, positions)


def runtime_rotary_embedding(op: Op, x: Value, positions: Value, cos: Value, sin: Value) -> Value:
    """The runtime's: other order of inputs; one position is where the tokens start."""
    if op.flag("is_packed_batching") or op.number("scale", 1.0) != 1.0:
        op.refuse("packed batching or a scale is not supported")
    tokens = shape_of(x)[2 if rank(x) == 4 else 1]
    known = op.known(positions, "the positions")
    if known.numel() == 1:
        known = known.reshape(1, 1) + torch.arange(tokens)[None]
    return _rotate(op, x, cos, sin, known)


def _rotate(op: Op, x: Value, cos: Value, sin: Value, positions: Value | None) -> Value:
    flat = rank(x) == 3
    if flat:
        width = op.integer("rotary_embedding_dim") or 2 * shape_of(cos)[-1]
        x = heads_first(op, x, op.integer("num_heads") or shape_of(x)[-1] // width)
    tokens, size = shape_of(x)[2:]
    turned = op.integer("rotary_embedding_dim") or size
    cos, sin = (_angles(op, table, positions, turned // 2) for table in (cos, sin))
    part = cut(op, x, 3, 0, turned)
    if op.flag("interleaved"):
        first, second = cut(op, part, 3, 0, turned, 2), cut(op, part, 3, 1, turned, 2)
    else:
        first, second = pieces(op, part, 3, [turned // 2] * 2)
    real = op.sub(op.mul(first, cos), op.mul(second, sin))
    imaginary = op.add(op.mul(first, sin), op.mul(second, cos))
    if op.flag("interleaved"):
        shape = [*shape_of(real), 1]
        pairs = op.call(aten.cat.default, [op.reshape(real, shape), op.reshape(imaginary, shape)], 4)
        both = op.reshape(pairs, [*shape_of(real)[:3], turned])
    else:
        both = op.call(aten.cat.default, [real, imaginary], 3)
    if turned < size:
        both = op.call(aten.cat.default, [both, cut(op, x, 3, turned, size)], 3)
    return heads_joined(op, both) if flat else both


def _angles(op: Op, table: Value, positions: Value | None, width: int) -> Value:
    """[batch, 1, tokens, width]"""
    if positions is not None:
        table = op.gather(table, 0, op.known(positions, "the positions"))
    table = cut(op, table, rank(table) - 1, 0, width)
    batch, tokens, _ = shape_of(table)
    return op.reshape(table, [batch, 1, tokens, width])


OPERATORS: Table = {
    ("", "Attention"): attention,
    ("", "RotaryEmbedding"): rotary_embedding,
    (MICROSOFT, "Attention"): packed_attention,
    (MICROSOFT, "MultiHeadAttention"): multi_head_attention,
    (MICROSOFT, "RotaryEmbedding"): runtime_rotary_embedding,
}
