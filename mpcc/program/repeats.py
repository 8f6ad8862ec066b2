"""Rows of a program that repeat earlier ones, as the twelve blocks of a ViT do, written once and referred to.

    {"like": 120, "rows": 411, "shift": {"mask_": 14, "blocks.": 1}, "but": [[3, 1, 13], [7, "end", ["head", 16384.0]]]}

stands for 411 rows: those from row 120 on (rows that the item itself makes included, so that one item may stand for all later
blocks), with numbers in names moved on. `shift`: what stands before a number -> how much is added to it; a node's name without a
number counts as number 0 of its kind (`mask`, `mask_1`, ...). `but`: [row of the item, which argument or key, what it is there].

What is written is decided by the rows alone, so that the same program gives the same text.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mpcc.ir import kinds

Row = Mapping[str, Any]
KEYS = {"like", "rows", "shift", "but"}
OTHERS = ("name", "origin", "end")
"""What a row has besides its operation and its arguments. The operation is never another one."""
FEW = 512
"""Rows up to which a graph is written plainly, for whoever reads the file."""
SEED = 6
"""Rows that must be alike before a longer repeat is looked for; what shorter ones save is less than an item takes."""
MOST_LOOKED_AT = 64
"""Earlier places that are compared, the latest first: a block has fewer parts that are alike."""
MOST_TRIED = 4
"""Of these, the longest, that are written out to see what they save."""
LARGEST = 1 << 25
"""Characters of a program once repeats are written out, the limit of `strict_json` on a text: few rows must not become many."""
MOST_SHIFTS = 1 << 12
_NUMBER = re.compile(r"(?<![0-9])(?:0|[1-9][0-9]{0,8})(?![0-9])")
_NUMBERED = re.compile(r".*_(?:0|[1-9][0-9]{0,8})")


# ---- text with numbers in it -------------------------------------------------------------------------------------------


def _moved(text: str, named: bool, shift: Callable[[str, int], int]) -> str:
    """The text with every number replaced by what `shift` makes of (what stands before it, number)."""
    before: list[str] = []
    end = 0

    def one(found: re.Match[str]) -> str:
        nonlocal end
        before.append(text[end : found.start()])
        end = found.end()
        return str(shift("#".join(before), int(found.group())))

    result = _NUMBER.sub(one, text)
    if named and not _NUMBERED.fullmatch(text):
        number = shift("#".join([*before, text[end:] + "_"]), 0)
        return f"{result}_{number}" if number else result
    return result


def _numbers(text: str, named: bool) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []

    def note(key: str, number: int) -> int:
        found.append((key, number))
        return number

    _moved(text, named, note)
    return found


def _texts(value: Any, named: bool) -> Iterator[tuple[str, bool]]:
    """The texts in a value, in order."""
    if isinstance(value, str):
        yield value, named
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one, named)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one, named)


def _changed(value: Any, named: bool, shift: Callable[[str, int], int]) -> Any:
    """The value with all its texts moved; as it is where it has none."""
    if isinstance(value, str):
        return _moved(value, named, shift)
    if isinstance(value, list | tuple):
        made = [_changed(one, named, shift) for one in value]
        return made if any(one is not other for one, other in zip(made, value, strict=True)) else value
    if isinstance(value, dict):
        return {key: _changed(one, named, shift) for key, one in value.items()}
    return value


def _row_texts(row: Row) -> Iterator[tuple[str, bool]]:
    yield row["name"], True
    yield from _texts(row["args"], True)
    yield from _texts(row.get("origin"), False)
    yield from _texts(row.get("end"), False)


def _row_changed(row: Row, shift: Callable[[str, int], int]) -> dict[str, Any]:
    made = {"name": _changed(row["name"], True, shift), "op": row["op"]}
    made["args"] = [_changed(one, True, shift) for one in row["args"]]
    return made | {key: _changed(row[key], False, shift) for key in OTHERS[1:] if key in row}


# ---- writing -----------------------------------------------------------------------------------------------------------


def packed(rows: Sequence[Row]) -> list[Row]:
    """The rows, those that repeat earlier ones as items. `unpacked` gives them back."""
    if len(rows) <= FEW:
        return list(rows)
    known: dict[Any, int] = {}
    forms = [known.setdefault(_form(row), len(known)) for row in rows]
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    found: list[Row] = []
    start = noted = 0
    while start < len(rows):
        for place in range(noted, start):
            places[tuple(forms[place : place + SEED])].append(place)
        noted = start
        runs = _longest(forms, start, places.get(tuple(forms[start : start + SEED]), []))
        saved, item = max(((_saved(rows, start, item), item) for item in (_item(rows, start, *run) for run in runs)),
                          key=lambda pair: pair[0], default=(0, rows[start]))  # fmt: skip
        if saved > 0:
            found.append(item)
            start += item["rows"]
        else:
            found.append(rows[start])
            start += 1
    return found


def _saved(rows: Sequence[Row], start: int, item: Row) -> int:
    return sum(len(_text(row)) for row in rows[start : start + item["rows"]]) - len(_text(item))


def _form(row: Row) -> Any:
    """What rows have in common if one can be written as like the other."""
    args = tuple(_form_of(one) for one in row["args"])
    return row["op"], args, "origin" in row, "end" in row, *(tuple(k for k, _ in _numbers(t, n)) for t, n in _row_texts(row))


def _form_of(value: Any) -> Any:
    """An argument that names no node may be anything: what differs is said."""
    return sum(1 for _ in _texts(value, True))


def _longest(forms: Sequence[int], start: int, places: Sequence[int]) -> list[tuple[int, int]]:
    """(where, how many rows) of the longest earlier runs of forms like those from `start` on, the nearest of equal ones first."""
    found = []
    for place in reversed(places[-MOST_LOOKED_AT:]):
        length = SEED
        while start + length < len(forms) and forms[place + length] == forms[start + length]:
            length += 1
        found.append((place, length))
    return sorted(found, key=lambda run: -run[1])[:MOST_TRIED]


def _item(rows: Sequence[Row], start: int, source: int, length: int) -> Row:
    steps: dict[str, Counter[int]] = defaultdict(Counter)
    for row, like in zip(rows[start : start + length], rows[source : source + length], strict=True):
        for (text, named), (other, _) in zip(_row_texts(row), _row_texts(like), strict=True):
            for (key, number), (_, old) in zip(_numbers(text, named), _numbers(other, named), strict=True):
                steps[key][number - old] += 1
    shift = {key: step for key, step in ((key, _usual(steps[key])) for key in sorted(steps)) if step}
    but: list[Any] = []
    for place in range(length):
        made, row = _row_changed(rows[source + place], _shifting(shift)), rows[start + place]
        but += [[place, i, one] for i, one in enumerate(row["args"]) if _text(one) != _text(made["args"][i])]
        but += [[place, key, row[key]] for key in OTHERS if key in row and _text(row[key]) != _text(made[key])]
    return {"like": source, "rows": length, "shift": shift, "but": but}


def _usual(steps: Counter[int]) -> int:
    return min(steps, key=lambda step: (-steps[step], step))


def _shifting(shift: Mapping[str, int]) -> Callable[[str, int], int]:
    return lambda key, number: max(0, number + shift.get(key, 0))


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


# ---- reading -----------------------------------------------------------------------------------------------------------


def unpacked(items: Any, most: int) -> list[Any]:
    """The rows that these items stand for, at most so many. ValueError says what is wrong with an item; rows are not checked."""
    rows: list[Any] = []
    room = LARGEST
    for place, item in enumerate(kinds.entries(items, most)):
        try:
            for row in _rows(item, rows) if isinstance(item, dict) and "like" in item else [item]:
                room -= len(_text(row))
                if len(rows) == most or room < 0:
                    raise ValueError(f"written out it has more than {most} rows or {LARGEST} characters")
                rows.append(row)
        except ValueError as error:
            raise ValueError(f"item {place}: {error}") from None
    return rows


def _rows(item: Row, rows: list[Any]) -> Iterator[dict[str, Any]]:
    """One by one, while `rows` grows by them."""
    if set(item) != KEYS:
        raise ValueError(f"a repeat has the keys {', '.join(sorted(KEYS))}, not {kinds.shown(sorted(item))}")
    source, length = kinds.whole(item["like"], 0, len(rows) - 1), kinds.whole(item["rows"], 1, LARGEST)
    shift = _shift(item["shift"])
    but: dict[int, list[tuple[Any, Any]]] = defaultdict(list)
    for one in kinds.entries(item["but"], LARGEST):
        row, where, value = kinds.fields(*[lambda v, n: v] * 3)(one, {})
        but[kinds.whole(row, 0, length - 1)].append((where, value))
    for place in range(length):
        made = _row_changed(_row(rows[source + place]), _shifting(shift))
        for where, value in but.get(place, ()):
            if isinstance(where, str) and where in OTHERS and where in made:
                made[where] = value
            else:
                made["args"][kinds.whole(where, 0, len(made["args"]) - 1)] = value
        yield made


def _row(value: Any) -> Row:
    """A row of which others can be made."""
    sound = isinstance(value, dict) and isinstance(value.get("name"), str) and isinstance(value.get("args"), list)
    if not sound or "op" not in value:
        raise ValueError("it repeats what is no row")
    row: Row = value
    return row


def _shift(value: Any) -> Mapping[str, int]:
    if not isinstance(value, dict) or len(value) > MOST_SHIFTS:
        raise ValueError(f"a shift is an object of at most {MOST_SHIFTS} keys, not {kinds.shown(value)}")
    return {key: kinds.whole(step, -(1 << 30), 1 << 30) for key, step in value.items()}
