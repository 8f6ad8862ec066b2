"""JSON that somebody else wrote: read as what it says, or refused. Nothing is guessed, and no document takes long.

    parsed(b'{"a": [1, 2.5]}') -> {"a": [1, 2.5]}
    parsed(b'{"a": 1, "a": 2}'), parsed("[NaN]"), parsed("[" * 100_000) -> ValueError

Python's reader takes the last of two equal keys, NaN and infinities, halves of surrogate pairs (which cannot be printed), and
lists nested so deeply that writing them again fails.
"""

from __future__ import annotations

import json
import math
from typing import Any

LONGEST = 1 << 25
"""Characters. ViT-Lite's program (7 layers) has 1.3 million; `[],` repeated takes 27 bytes of memory a character: below 1 GB."""
DEEPEST = 32
"""Lists and objects within one another. A program needs 6 around the positions of a `gather`, which nest 16 deep at most."""


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text in UTF-8. ValueError says what is wrong with it."""
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters, more than {LONGEST}")
    decoded = text.decode("utf-8") if isinstance(text, bytes) else text
    try:
        value = json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("lists within lists, too deep") from None
    _check(value)
    return value


def _check(value: Any) -> None:
    """Depth and texts, without recursion."""
    level = [value]
    for _ in range(DEEPEST):
        if not level:
            return
        inner = []
        for one in level:
            if isinstance(one, str):
                one.encode()  # UnicodeEncodeError is a ValueError: half a surrogate pair
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, dict):
                inner += one.keys()
                inner += one.values()
        level = inner
    if level:
        raise ValueError("lists within lists, too deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not a finite number")


def _finite(word: str) -> float:
    value = float(word)
    if math.isinf(value):
        raise ValueError(f"{word[:40]} is not a finite number")
    return value
