"""mpcc optimize --recipe, --verbose, and --plan with a split site."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Mpcc


def test_a_recipe_by_name_and_what_was_rewritten(mpcc: Mpcc, model: Path, calibration: Path) -> None:
    answer = mpcc("optimize", model, "--recipe", "stock", "--calibration", calibration, "-o", "out.mpcc", "--verbose", "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document["plan"]["notes"]["recipe"] == "stock"
    assert set(document["rewrites"]) == {"fired", "refused"}
    assert Path("out.mpcc/plan.json").is_file()


@pytest.mark.parametrize("recipe", ["mpcwhat", "mpcvit", "mpcvit:2"])
def test_a_wrong_recipe_is_one_clear_error(mpcc: Mpcc, model: Path, recipe: str) -> None:
    answer = mpcc("optimize", model, "--recipe", recipe, "-o", "out.mpcc")
    assert answer.code == 2 and ("recipe" in answer.err or "share" in answer.err)
    assert not Path("out.mpcc").exists()


def test_recipes_are_listed(mpcc: Mpcc) -> None:
    found = {one["name"]: one for one in json.loads(mpcc("recipes", "--json").out)}
    assert found["mpcvit"]["choice"] == "share" and found["stock"]["aliases"] == ["softmax"]
    assert [use["approximation"] for use in found["mpcformer"]["operators"]["gelu"]] == ["gelu_quad"]
    assert set(found) <= set(re.findall(r"[\w+-]+", mpcc("recipes").out))


def test_a_plan_edited_by_hand(mpcc: Mpcc, model: Path, calibration: Path) -> None:
    assert mpcc("optimize", model, "--calibration", calibration, "-o", "one.mpcc").code == 0
    document = json.loads(Path("one.mpcc/plan.json").read_text())
    ((site, entry),) = document["sites"].items()
    parts = [{"index": [0, 2, 5], **entry}, {"index": [1, 3, 4, 6, 7], **entry}]
    document["sites"][site] = {"dim": 1, "parts": parts}
    Path("edited.json").write_text(json.dumps(document))
    answer = mpcc("optimize", model, "--calibration", calibration, "--plan", "edited.json", "-o", "two.mpcc", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["plan"]["sites"][site]["parts"][0]["index"] == [0, 2, 5]
    assert "(0,2,5)" in Path("two.mpcc/report.html").read_text()

    document["sites"][site]["parts"][1]["index"] = [1, 3, 4, 6]
    Path("edited.json").write_text(json.dumps(document))
    answer = mpcc("optimize", model, "--calibration", calibration, "--plan", "edited.json", "-o", "three.mpcc")
    assert answer.code == 2 and f"site {site}: position(s) 7 of dimension 1 belong to no part" in answer.err
    assert not Path("three.mpcc").exists()
