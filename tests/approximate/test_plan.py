"""Plans: JSON there and back, and one clear error for everything that does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mpcc.approximate import Choice, Part, Plan, Split
from mpcc.errors import PlanError

HEADS = Split(1, (Part((0, 2), Choice("softmax_relu", {"floor": 0.5})), Part((1, 3), Choice("softmax_scaling"))))


def test_a_plan_with_a_split_comes_back_and_is_stable() -> None:
    plan = Plan({"a.softmax": HEADS, "b.gelu": Choice("gelu_quad", {"c": [1, 2]})}, {"level": "structural"})
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()


def test_the_json_is_the_documented_one() -> None:
    sites = json.loads(Plan({"a.softmax": HEADS}).to_json())["sites"]
    assert sites["a.softmax"] == {
        "dim": 1,
        "parts": [
            {"index": [0, 2], "approximation": "softmax_relu", "options": {"floor": 0.5}},
            {"index": [1, 3], "approximation": "softmax_scaling", "options": {}},
        ],
    }


def test_equal_choices_become_one_part() -> None:
    a, b = Choice("a", {"n": 1}), Choice("b")
    assert Split.of(1, [a, b, Choice("a", {"n": 1}), b]) == Split(1, (Part((0, 2), a), Part((1, 3), b)))
    assert Split.of(1, [a, a]) == a


def test_labels_are_short() -> None:
    assert Part((0, 1, 2, 5, 7, 8), Choice("a")).label == "0-2,5,7-8"


def entry(**parts: Any) -> dict[str, Any]:
    return {"version": 1, "sites": {"s": parts}}


def part(*index: Any) -> dict[str, Any]:
    return {"index": list(index), "approximation": "a"}


WRONG = {
    "overlap": (entry(dim=1, parts=[part(0, 1), part(1, 2)]), r"site s: position\(s\) 1 of dimension 1 belong to two"),
    "hole": (entry(dim=1, parts=[part(0), part(2, 4)]), r"site s: position\(s\) 1, 3 of dimension 1 belong to no part"),
    "negative": (entry(dim=1, parts=[part(-1, 0)]), "site s: position -1 is negative"),
    "order": (entry(dim=1, parts=[part(1, 0)]), "not ascending"),
    "twice": (entry(dim=1, parts=[part(0, 0)]), "not ascending"),
    "empty part": (entry(dim=1, parts=[part(0), part()]), "has no positions"),
    "no parts": (entry(dim=1, parts=[]), "at least one part"),
    "parts": (entry(dim=1, parts={"0": "a"}), "`parts` must be a list"),
    "no dim": (entry(parts=[part(0)]), "`dim` must be an integer"),
    "dim": (entry(dim="heads", parts=[part(0)]), "`dim` must be an integer"),
    "bool": (entry(dim=True, parts=[part(0)]), "`dim` must be an integer"),
    "index": (entry(dim=1, parts=[part("0")]), r"site s, part 0: needs an `index` \(a list of integers\)"),
    "nested": (entry(dim=1, parts=[{"index": [0], "dim": 2, "parts": []}]), "part 0: needs an `approximation`"),
    "both": (entry(dim=1, parts=[part(0)], approximation="a"), "unknown entry `approximation`"),
    "misspelt": (entry(approximation="a", option={}), "unknown entry `option`"),
    "no approximation": (entry(options={}), "needs an `approximation`"),
    "options": (entry(approximation="a", options=[1]), "`options` must be an object"),
    "notes": ({"version": 1, "notes": 3, "sites": {}}, "`notes` must be an object"),
    "version": ({"version": 2, "sites": {}}, "not a plan of version 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_plan_is_refused_with_its_place(name: str) -> None:
    document, message = WRONG[name]
    with pytest.raises(PlanError, match=message) as raised:
        Plan.from_json(json.dumps(document), where="my-plan.json")
    assert raised.value.where == "my-plan.json"


def test_a_position_beyond_all_others_takes_no_time() -> None:
    part = {"index": [10**9], "approximation": "softmax_relu"}
    text = json.dumps({"version": 1, "sites": {"s": {"dim": 1, "parts": [part]}}})
    with pytest.raises(PlanError, match="0, 1, 2, 3, 4, 5, 6, 7 of dimension 1 belong to no part"):
        Plan.from_json(text)


@pytest.mark.parametrize("name", ["", "\x1b[2J", "a" * 2000])
def test_names_of_sites_can_be_shown(name: str) -> None:
    with pytest.raises(PlanError, match="is not the name of a site|needs an `approximation`"):
        Plan.from_json(json.dumps({"version": 1, "sites": {name: {"approximation": name}}}))
