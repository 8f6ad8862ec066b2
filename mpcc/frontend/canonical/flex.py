"""Flex attention: the score and mask functions, traced for one score, are walked once for all scores by broadcasting.

flex_attention(q, k, v, score_mod, blocks, scale) -> softmax(score_mod(q k^T scale, b, h, i, j) + mask(b, h, i, j)) v.
Block masks only skip work: the mask function alone says what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from .builder import Builder
from .rules.attention import additive
from .values import Constant, Value, shape

aten = torch.ops.aten

Run = Callable[[fx.GraphModule, list[Any]], Any]


def flex_attention(b: Builder, run: Run, args: tuple[Any, ...]) -> list[Any]:
    """q, k, v [batch, heads, tokens, d]. `run` walks a nested graph with the given inputs."""
    query, key, value, score_graph, blocks, scale, _, score_buffers, mask_buffers = args
    if shape(key)[1] != shape(query)[1]:
        times = shape(query)[1] // shape(key)[1]
        key, value = (b.do(aten.repeat_interleave.self_int, part, times, 1) for part in (key, value))
    scores = b.mul(b.matmul(query, b.swap(key, -2, -1)), scale)
    places = _places(scores)
    scores = run(score_graph, [scores, *places, *score_buffers])
    allowed = run(blocks[-1], [*places, *mask_buffers])
    if not (isinstance(allowed, Constant) and bool(allowed.value.all())):
        scores = b.add(scores, additive(b, allowed))
    return [b.matmul(b.do(aten.softmax.int, scores, -1), value), None, None]


def _places(scores: Value) -> list[Constant]:
    """The numbers of batch, head, query and key, each along its own axis."""
    return [
        Constant(torch.arange(size).reshape([-1 if i == dim else 1 for i in range(4)]))
        for dim, size in enumerate(shape(scores))
    ]
