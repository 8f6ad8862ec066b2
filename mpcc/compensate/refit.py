"""A choice fitted anew to what its site sees once the weights before it have changed: built alike, so that it costs the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mpcc.approximate import Approximation, Choice, Options, SiteStatistics, Split


def refitted(entry: Choice | Split, seen: SiteStatistics, known: Mapping[str, Approximation]) -> Choice | Split:
    """Each choice as the candidate of its approximation that is built alike and nearest in its numbers; as it was if none is."""
    return entry.map(lambda choice: _nearest(choice, seen, known))


def _nearest(choice: Choice, seen: SiteStatistics, known: Mapping[str, Approximation]) -> Choice:
    form, numbers = _form(choice.options), list(_numbers(choice.options))
    alike = [dict(options) for options in known[choice.approximation].candidates(seen) if _form(options) == form]
    if not alike:
        return choice

    def distance(options: Options) -> float:
        pairs = zip(_numbers(options), numbers, strict=True)
        return math.fsum(abs(one - other) / max(abs(one), abs(other), 1e-9) for one, other in pairs)

    return Choice(choice.approximation, min(alike, key=distance))


def _form(value: Any) -> Any:
    """Options without their numbers; 0, 1 and -1 count, since products by them are left out."""
    if isinstance(value, Mapping):
        return tuple((key, _form(one)) for key, one in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(_form(one) for one in value)
    if isinstance(value, float):
        return value if value in (0.0, 1.0, -1.0) else "number"
    return value


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        for _, one in sorted(value.items()):
            yield from _numbers(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, float):
        yield value
