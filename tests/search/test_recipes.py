"""Recipes: which approximation at every site, which heads and tokens keep their operator, and plans that hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import fx, nn

import mpcc
from mpcc import registry
from mpcc.approximate import Choice, Plan, Split
from mpcc.approximate.expand import expand
from mpcc.approximate.recipe import KEEP, EveryStructural, Recipe, Use
from mpcc.errors import PlanError, UsageError
from mpcc.pipeline import Prepared, prepare, schedule
from mpcc.runtime.engine.emulate import Emulator
from mpcc.search import recipe_plan
from mpcc.search.recipes import parse
from mpcc.search.scores import measured_scores
from tests.models.uneven_heads import DIM, HEADS, TOKENS, Block


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    torch.manual_seed(0)
    return prepare(Block().eval(), (torch.randn(1, TOKENS, DIM),), calibration=torch.randn(12, TOKENS, DIM).repeat(6, 1, 1))


def plan_of(prepared: Prepared, name: str, **more: Any) -> Plan:
    return recipe_plan(name, prepared.graph, prepared.inputs, registry.approximations(), **more)


def kinds(plan: Plan, site: str) -> list[str]:
    """The approximation of each head or token of a site."""
    entry = plan.choices[site]
    if isinstance(entry, Choice):
        return [entry.approximation]
    assert isinstance(entry, Split)
    return [part.choice.approximation for _, part in sorted((i, p) for p in entry.parts for i in p.index)]


@pytest.mark.parametrize("name", ["mpcformer", "the-x", "relu-softmax", "scaling"])
def test_every_site_gets_what_the_recipe_says(prepared: Prepared, name: str) -> None:
    plan = plan_of(prepared, name)
    for site, choice in plan.choices.items():
        assert isinstance(choice, Choice)
        approximation = registry.approximation(choice.approximation)
        uses = registry.recipe(name).alternatives(registry.approximations()).get(approximation.operator)
        assert approximation.name == uses[0].approximation if uses else approximation.level == "bounded", site
    x = torch.randn(1, TOKENS, DIM)
    with torch.no_grad():
        expected = expand(prepared.graph, plan, registry.approximations())(x)
    torch.testing.assert_close(Emulator(schedule(prepared, plan))(x)[0], expected, rtol=0, atol=2e-2)


def test_the_heads_that_matter_keep_their_softmax(prepared: Prepared) -> None:
    assert kinds(plan_of(prepared, "mpcvit:0.5"), "softmax") == ["softmax_relu", "softmax_scaling"]
    assert kinds(plan_of(prepared, "mpcvit:0.5", scores={"softmax": [0.1, 0.7]}), "softmax") == [
        "softmax_scaling",
        "softmax_relu",
    ]
    assert kinds(plan_of(prepared, "mpcvit:1"), "softmax") == ["softmax_relu"]
    assert kinds(plan_of(prepared, "mpcvit:0"), "softmax") == ["softmax_scaling"]


def test_tokens_lose_their_activation(prepared: Prepared) -> None:
    found = kinds(plan_of(prepared, "mpcvit+:0.5", scores={"act.gelu": [6, 1, 5, 2, 4, 3]}), "act.gelu")
    assert [kind == "gelu_identity" for kind in found] == [False, True, False, True, False, True]
    assert Counter(kind == "gelu_identity" for kind in kinds(plan_of(prepared, "mpcvit+:0.5"), "act.gelu")) == {True: 3, False: 3}


def test_heads_are_scored_by_the_outputs_that_they_change(prepared: Prepared) -> None:
    places, known = {"softmax": (1, HEADS)}, registry.approximations()
    scores = measured_scores(prepared.graph, prepared.inputs, places, "head", Use("softmax_scaling"), known)["softmax"]
    assert scores[0] > 10 * scores[1] > 0


def test_options_of_a_recipe_are_kept_at_every_site(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    coefficients = [0.5, 0.25, 0.125]
    own = Recipe("own", "a fixed parabola", "a test", {"gelu": (Use("gelu_quad", {"coefficients": coefficients}),)})
    monkeypatch.setattr(registry, "recipes", lambda: {"own": own})
    assert plan_of(prepared, "own").choices["act.gelu"] == Choice("gelu_quad", {"coefficients": coefficients})


@pytest.mark.parametrize(
    ("operators", "choice", "message"),
    [
        ({"gelu": (KEEP, Use("gelu_quad"))}, "everywhere", "takes 1"),
        ({"gelu": (KEEP,)}, "share", "takes 2"),
        ({"gelu": ()}, "budget", "at least 1"),
        ({"gelu": (Use("gelu_quad"), KEEP)}, "share", "KEEP comes first"),
        (EveryStructural(), "share", "budget"),
        ({"gelu": (Use("softmax_relu"),)}, "everywhere", "no approximation of gelu called 'softmax_relu'"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(operators: Any, choice: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe("own", "", "", operators, choice).alternatives(registry.approximations())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mpcwhat", "no recipe called 'mpcwhat'"),
        ("mpcvit", "needs a share"),
        ("mpcvit:half", "needs a share"),
        ("mpcvit:1.5", "between 0 and 1"),
        ("mpcvit:nan", "between 0 and 1"),
        ("stock:0.5", "takes no share"),
        ("mpcc", "mpcc tune --method mpcc"),
    ],
)
def test_a_wrong_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(name)


def test_scores_that_do_not_fit_are_refused(prepared: Prepared) -> None:
    with pytest.raises(PlanError, match="3 scores for 2 heads"):
        plan_of(prepared, "mpcvit:0.5", scores={"softmax": [1, 2, 3]})
    with pytest.raises(UsageError, match="exclude each other"):
        mpcc.optimize(fx.symbolic_trace(nn.Identity()), plan=Plan({}), recipe="stock")
