"""Blocks that are alike stand once in program.json; what is written is read again, and nothing small becomes endless."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch

from mpcc.errors import BundleError
from mpcc.ir import mpc
from mpcc.program.program import Program
from mpcc.program.repeats import FEW, LARGEST, packed, unpacked
from mpcc.program.serialize import rows_of
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import build

BLOCKS, BLOCK = 12, 60
MOST = 1 << 20


def rows(different: int = -1) -> list[dict[str, Any]]:
    """Twelve blocks of equal operations and other numbers; one may have another operation in it."""
    made: list[dict[str, Any]] = []
    for block in range(BLOCKS):
        for place in range(BLOCK):
            number = block * BLOCK + place
            before = made[-1]["name"] if made else "input_0"
            op = "square" if (block, place) == (different, BLOCK // 2) else f"step{place}"
            made.append({
                "name": f"combine_{number}" if number else "combine", "op": op, "args": [[before, "input_0"], [place % 7, 2.0]],
                "origin": {"layer": f"blocks.{block}.norm{place % 2}"},
            })  # fmt: skip
    return made


def text(value: Any) -> str:
    return json.dumps(value)


@pytest.mark.parametrize("different", [-1, 0, 5, 11])
def test_what_is_written_is_read(different: int) -> None:
    given = rows(different)
    assert text(unpacked(packed(given), MOST)) == text(given)


def test_blocks_that_are_alike_stand_once() -> None:
    given = rows()
    found = packed(given)
    assert len(found) <= BLOCK + 3
    assert len(text(found)) < len(text(given)) / 3


def test_a_number_of_another_type_is_another_number() -> None:
    given = rows()
    given[5 * BLOCK]["args"][1] = [given[5 * BLOCK]["args"][1][0], 2]
    given[6 * BLOCK]["args"][1] = [True, 2.0]
    assert text(unpacked(packed(given), MOST)) == text(given)


def test_few_rows_are_written_plainly() -> None:
    given = rows()[:FEW]
    assert packed(given) == given


@cache
def deep() -> Program:
    """Sixty parabolas, one behind the other."""

    def function(x: Any) -> Any:
        for step in range(60):
            x = mpc.polynomial(x, (0.001 * step, 0.9, 0.02))
        return x

    return build(function)


def test_a_program_with_repeats_is_the_same_program() -> None:
    made = deep()
    written = made.to_json()
    plain = text(rows_of(made.dealer.graph, {})) + text(rows_of(made.online.graph, dict(made.correlations)))
    assert len(written) < len(plain) / 3
    again = Program.from_json(written, made.constants)
    assert again.to_json() == written and again.digest == made.digest and again.cost == made.cost
    image = torch.linspace(-1, 1, 80).reshape(1, 5, 16)
    assert torch.equal(Emulator(again)(image)[0], Emulator(made)(image)[0])


ROW = {"name": "a", "op": "square", "args": ["b"]}
ITEM: dict[str, Any] = {"like": 0, "rows": 2, "shift": {"a_": 1}, "but": []}


def test_a_repeat_may_repeat_itself() -> None:
    assert [row["name"] for row in unpacked([ROW, ITEM | {"rows": 3}], MOST)] == ["a", "a_1", "a_2", "a_3"]


REFUSED: dict[str, tuple[list[Any], str]] = {
    "nothing before it": ([ITEM], "is not between 0 and -1"),
    "a later row": ([ROW, ITEM | {"like": 1}], "1 is not between 0 and 0"),
    "a negative row": ([ROW, ITEM | {"like": -1}], "-1 is not between"),
    "no rows": ([ROW, ITEM | {"rows": 0}], "0 is not between"),
    "rows without end": ([ROW | {"args": ["b" * 10_000]}, ITEM | {"rows": 1 << 24}], "written out it has more than"),
    "another key": ([ROW, ITEM | {"x": 1}], "a repeat has the keys but, like, rows, shift"),
    "a missing key": ([ROW, {"like": 0, "rows": 1}], "a repeat has the keys"),
    "a shift that is no number": ([ROW, ITEM | {"shift": {"a_": "1"}}], "'1' is not an integer"),
    "a shift that is huge": ([ROW, ITEM | {"shift": {"a_": 1 << 40}}], "is not between"),
    "a list of shifts": ([ROW, ITEM | {"shift": [1]}], "a shift is an object"),
    "an exception beyond its rows": ([ROW, ITEM | {"but": [[2, 0, 1]]}], "2 is not between 0 and 1"),
    "an exception to an argument that is none": ([ROW, ITEM | {"but": [[0, 1, 1]]}], "1 is not between 0 and 0"),
    "an exception to the operation": ([ROW, ITEM | {"but": [[0, "op", "open"]]}], "'op' is not an integer"),
    "half an exception": ([ROW, ITEM | {"but": [[0, 1]]}], "a list of 2 entries, not 3"),
    "what is no row": (["x", ITEM], "it repeats what is no row"),
    "no list": ([ROW, ITEM | {"but": 3}], "3 is not a list"),
    "much from little": ([ROW | {"args": ["b" * 1000] * 1000}, ITEM | {"rows": 1 + LARGEST // 1_000_000}], "written out it has"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_named(what: str) -> None:
    items, message = REFUSED[what]
    document = json.loads(deep().to_json()) | {"online": items}
    with pytest.raises(BundleError, match=message):
        Program.from_json(json.dumps(document), {})
