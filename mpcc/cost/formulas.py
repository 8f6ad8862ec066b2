"""The cost of a model as formulas: bytes and rounds in its tokens, width, heads, hidden width and layers.

    symbolic(uses, registry.protocol("semi2k")).bytes      -> 14*n**2*h*... + ...
    formulas.at(n=197).bytes                               -> the number for 197 tokens

Sizes that the model shares between operators are recognised from its attention (softmax over [.., heads, tokens,
tokens]) and layer norms (width), then every size in every shape is written by them. The result is checked: at the
model's own sizes the formulas must give the numbers of the estimate. A patch embedding keeps its numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy

from mpcc.errors import UsageError

from .price import Amount, Price, Work
from .protocol import Protocol
from .use import Use

NAMES = {"n": "tokens", "d": "width", "h": "heads", "m": "hidden width", "L": "layers"}


@dataclass(frozen=True)
class Formulas:
    """Online rounds, bytes and local work as sympy expressions; `sizes` are the symbols' values in the model at hand."""

    protocol: str
    rounds: Amount
    bytes: Amount
    sizes: Mapping[str, int]
    local_seconds: Amount = 0

    def at(self, **sizes: int) -> Formulas:
        """The same with some of the symbols replaced by numbers."""
        values = {_symbol(name): size for name, size in sizes.items()}
        kept = {name: size for name, size in self.sizes.items() if name not in sizes}
        rounds, data, local = (
            sympy.sympify(amount).subs(values) for amount in (self.rounds, self.bytes, self.local_seconds)
        )
        return Formulas(self.protocol, rounds, data, kept, local)

    def growth(self, tokens: Sequence[int]) -> list[tuple[int, float, float]]:
        """(tokens, rounds, bytes) as the number of tokens grows and all else stays."""
        found = zip(tokens, self.work(tokens), strict=True)
        return [(n, float(work.rounds), float(work.bytes)) for n, work in found]

    def work(self, tokens: Sequence[int]) -> list[Work]:
        """The online work at each number of tokens, all else as in the model at hand, in numbers."""
        rest = {name: size for name, size in self.sizes.items() if name != "n"}
        fixed = self.at(**rest)
        at = [fixed.at(n=n) for n in tokens]
        return [Work(float(one.rounds), float(one.bytes), float(one.local_seconds)) for one in at]


def symbolic(found: Sequence[Use], protocol: Protocol) -> Formulas:
    """The formulas of a transformer. UsageError where its sizes cannot be told apart or are not recognised."""
    sizes = recognise(found)
    layers = _layer_count(found)
    symbols = {size: _symbol(name) for name, size in sizes.items()}
    total, repeated = protocol.fixed, Price()
    for use in found:
        price = protocol.chained(_price(_written(use, sizes, symbols), protocol))
        inside = layers > 1 and _pattern(use.layer) is not None
        if not inside:
            total = total + price
        elif _index(use.layer) == 0:
            repeated = repeated + price
    whole = total + repeated * (_symbol("L") if layers > 1 else 1)
    known = {**sizes, **({"L": layers} if layers > 1 else {})}
    online = whole.online
    formulas = Formulas(
        protocol.name, sympy.expand(online.rounds), sympy.expand(online.bytes), known, online.local_seconds
    )
    _check(formulas, found, protocol)
    return formulas


def recognise(found: Sequence[Use]) -> dict[str, int]:
    """The sizes of a transformer by symbol, from its softmaxes, norms and linear layers."""
    square = Counter(use.shapes[0] for use in found if use.primitive == "softmax" and len(use.shapes[0]) >= 3)
    wide = Counter(use.shapes[0][-1] for use in found if use.primitive in ("layer_norm", "rms_norm"))
    if not square or not wide:
        raise UsageError(
            "there are no formulas for this model: it has no softmax over tokens, or no norm over its width",
            hint="symbolic costs are for transformers at the nn level; leave --symbolic out for a table of numbers",
        )
    shape = square.most_common(1)[0][0]
    sizes = {"n": shape[-1], "d": wide.most_common(1)[0][0], "h": shape[-3]}
    hidden = Counter(
        use.output[-1] for use in found if use.primitive in ("gelu", "relu", "silu") and len(use.output) > 1
    )
    if hidden:
        sizes["m"] = hidden.most_common(1)[0][0]
    if sizes.get("m") == sizes["d"]:
        del sizes["m"]
    large = [size for name, size in sizes.items() if name != "h"]
    if len(set(large)) < len(large):
        raise UsageError(
            f"the sizes of this model cannot be told apart: {sizes}",
            hint="give an input of another size, so that the number of tokens is not that of the width",
        )
    return sizes


def _price(use: Use, protocol: Protocol) -> Price:
    return protocol.price(use.primitive, use.shapes, use.visibility, output=use.output, site=use.site, **use.attrs)


def _written(use: Use, sizes: Mapping[str, int], symbols: Mapping[int, Any]) -> Use:
    """A use with its sizes as expressions. The first dimension of a batch stays a number."""

    def write(shape: tuple[int, ...]) -> tuple[Any, ...]:
        return tuple(
            _symbol("h") if size == sizes["h"] and size > 1 and dim == len(shape) - 3 else _size(size, sizes, symbols)
            for dim, size in enumerate(shape)
        )

    attrs = dict(use.attrs)
    if "normalized_shape" in attrs:
        attrs["normalized_shape"] = write(tuple(attrs["normalized_shape"]))
    shapes = tuple(write(shape) for shape in use.shapes)
    return replace(use, shapes=shapes, output=write(use.output), attrs=attrs)


def _size(size: int, sizes: Mapping[str, int], symbols: Mapping[int, Any]) -> Any:
    """n, n - 1 (patches), d, 3 d, m, d / h; any other size stays a number."""
    tokens, width, heads = sizes["n"], sizes["d"], sizes["h"]
    if size != heads and size in symbols:
        return symbols[size]
    if size == tokens - 1:
        return _symbol("n") - 1
    if size == 3 * width:
        return 3 * _symbol("d")
    if heads > 1 and size * heads == width:
        return _symbol("d") / _symbol("h")
    return size


def _check(formulas: Formulas, found: Sequence[Use], protocol: Protocol) -> None:
    exact = protocol.fixed
    for use in found:
        exact = exact + protocol.chained(_price(use, protocol))
    at_home = formulas.at(**formulas.sizes)
    for name in ("rounds", "bytes"):
        wanted, got = float(getattr(exact.online, name)), float(getattr(at_home, name))
        if abs(wanted - got) > 1e-9 * abs(wanted):
            raise UsageError(
                f"there are no formulas for this model: its layers differ ({name}: {wanted:g}, by formula {got:g})",
                hint="leave --symbolic out for a table of numbers",
            )


_INDEX = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


def _index(layer: str) -> int | None:
    match = _INDEX.search(layer)
    return None if match is None else int(match[1])


def _pattern(layer: str) -> str | None:
    """`blocks.*.attn` for `blocks.3.attn`; None for a layer outside the blocks."""
    return None if _index(layer) is None else _INDEX.sub(lambda match: match[0].replace(match[1], "*"), layer, count=1)


def _layer_count(found: Sequence[Use]) -> int:
    indices = {_index(use.layer) for use in found if use.primitive == "softmax"}
    return len(indices - {None})


def _symbol(name: str) -> Any:
    return sympy.Symbol(name, integer=True, positive=True)
