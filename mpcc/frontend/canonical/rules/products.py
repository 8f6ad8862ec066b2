"""Matrix products: linear (by a weight) and matmul. mm, bmm, addmm, baddbmm, einsum become these."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import fx

from ..builder import Builder
from ..values import Constant, Decline, Rules, Value, rank, shape

aten = torch.ops.aten


def linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Any:
    if isinstance(x, Constant) or isinstance(weight, fx.Node) and not is_weight(weight):
        product = b.matmul(x, b.swap(weight, -2, -1))
        return product if bias is None else b.add(product, bias)
    if rank(weight) == 1:
        return b.reshape(linear(b, x, b.reshape(weight, [1, -1]), bias), shape(x)[:-1])
    return b.emit(aten.linear.default, x, weight, *([] if bias is None else [bias]))


def is_weight(value: Value) -> bool:
    """Whether a value comes from parameters alone."""
    if isinstance(value, Constant) or value.op == "get_attr":
        return True
    return value.op == "call_function" and all(is_weight(source) for source in value.all_input_nodes)


def matmul(b: Builder, x: Value, y: Value) -> Any:
    """[..., n, k] x [..., k, m]; by a 2-D weight it is a linear layer; vectors become matrices and back."""
    if rank(x) == 1:
        made = matmul(b, b.reshape(x, [1, -1]), y)
        gone = rank(made) - (2 if rank(y) > 1 else 1)
        return b.reshape(made, [size for i, size in enumerate(shape(made)) if i != gone])
    if rank(y) == 1:
        return b.reshape(matmul(b, x, b.reshape(y, [-1, 1])), shape(x)[:-1])
    if rank(y) == 2 and isinstance(x, fx.Node) and is_weight(y):
        return linear(b, x, b.permute(y, [1, 0]))
    return b.emit(aten.matmul.default, x, y)


def addmm(b: Builder, bias: Value, x: Value, y: Value, *, beta: float = 1, alpha: float = 1) -> Any:
    if beta == 1 and alpha == 1 and rank(bias) == 1 and isinstance(x, fx.Node) and is_weight(y) and is_weight(bias):
        return linear(b, x, b.permute(y, [1, 0]), bias)
    product = b.mul(b.matmul(x, y), alpha)
    return b.add(product, b.mul(bias, beta)) if beta else product


def einsum(b: Builder, equation: str, operands: Sequence[Value], *, path: Any = None) -> Any:
    """Pairwise from the left, each pair one batched matmul between permutes."""
    terms, result = _terms(equation.replace(" ", ""), operands)
    value, labels = operands[0], terms[0]
    value, labels = _diagonal_free(value, labels)
    for i in range(1, len(operands)):
        wanted = set(result).union(*terms[i + 1 :])
        value, labels = _pair(b, value, labels, operands[i], terms[i], wanted)
    gone = [i for i, label in enumerate(labels) if label not in result]
    if gone:
        value, labels = b.sum(value, gone), [label for label in labels if label in result]
    return b.permute(value, [labels.index(label) for label in result])


def _terms(equation: str, operands: Sequence[Value]) -> tuple[list[list[str]], list[str]]:
    """The labels of each operand and of the result; `...` becomes digits."""
    left, arrow, right = equation.partition("->")
    terms: list[list[str]] = []
    for text, value in zip(left.split(","), operands, strict=True):
        before, found, after = text.partition("...")
        implied = [str(i) for i in range(rank(value) - len(before + after))] if found else []
        terms.append([*before, *implied, *after])
    dots = sorted({label for term in terms for label in term if label.isdigit()})
    if arrow:
        before, found, after = right.partition("...")
        return terms, [*before, *(dots if found else []), *after]
    every = [label for term in terms for label in term]
    return terms, dots + sorted(label for label in set(every) if every.count(label) == 1 and not label.isdigit())


def _diagonal_free(value: Value, labels: list[str]) -> tuple[Value, list[str]]:
    if len(set(labels)) != len(labels):
        raise Decline("an einsum takes a diagonal")
    return value, labels


def _pair(
    b: Builder, x: Value, left: list[str], y: Value, right: list[str], wanted: set[str]
) -> tuple[Value, list[str]]:
    """One contraction: [batch, i, k] x [batch, k, j] -> [batch, i, j]."""
    _diagonal_free(y, right)
    size = dict(zip([*left, *right], [*shape(x), *shape(y)], strict=True))
    for value, labels in ((x, left), (y, right)):
        if any(shape(value)[i] != size[label] for i, label in enumerate(labels)):
            raise Decline("an einsum broadcasts a size of one")
    both = [label for label in left if label in right]
    batch, inner = [k for k in both if k in wanted], [k for k in both if k not in wanted]
    rows, columns = [k for k in left if k not in right], [k for k in right if k not in left]
    x = _ordered(b, x, left, [batch, rows, inner], size)
    y = _ordered(b, y, right, [batch, inner, columns], size)
    if not batch:
        x, y = b.reshape(x, shape(x)[1:]), b.reshape(y, shape(y)[1:])
    made = b.matmul(x, y) if inner else b.mul(x, y)
    labels = [*batch, *rows, *columns]
    return b.reshape(made, [size[label] for label in labels]), labels


def _ordered(b: Builder, x: Value, labels: list[str], groups: list[list[str]], size: dict[str, int]) -> Any:
    order = [labels.index(label) for group in groups for label in group]
    return b.reshape(b.permute(x, order), [prod(size[label] for label in group) for group in groups])


RULES: Rules = {
    aten.linear.default: linear,
    **dict.fromkeys((aten.matmul.default, aten.mm.default, aten.bmm.default), matmul),
    **dict.fromkeys((aten.mv.default, aten.dot.default), matmul),
    **dict.fromkeys((aten.addmm.default, aten.baddbmm.default), addmm),
    aten.einsum.default: einsum,
}  # fmt: skip
