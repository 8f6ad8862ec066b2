"""Options of a plan: of the kinds that the approximation's function says, and bounded; whatever else is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from mpcc import registry
from mpcc.approximate import Choice, Plan
from mpcc.approximate.expand import expand
from mpcc.approximate.options import check_options, domain_of
from mpcc.errors import PlanError
from mpcc.testing.cases import cases_of

SOFTMAX = {"start": [1.0, 0.5], "powers": [2], "chain": [[[1.0, 0.5], []]], "joined": True, "low": -1, "high": 2.5}


def test_what_candidates_have_is_accepted() -> None:
    check_options(registry.approximations()["softmax_mean_shift"], SOFTMAX, "s")
    check_options(registry.approximations()["softmax_relu"], {"chain": None, "floor": 0.5, "zeros": True}, "s")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start", "x"), ("start", [True]), ("start", [float("inf")]), ("start", [1e30]), ("start", [0.0] * 65), ("start", None),
        ("powers", [10**9]), ("powers", [1.5]), ("chain", [[1.0]]), ("chain", {"a": 1}), ("joined", 1), ("joined", "yes"),
        ("low", "x"), ("low", [1]), ("mask", [[1], "80"]),
    ],
)  # fmt: skip
def test_values_of_other_kinds(name: str, value: Any) -> None:
    with pytest.raises(PlanError, match=f"site s: the options of softmax_mean_shift do not fit: .*{name}"):
        check_options(registry.approximations()["softmax_mean_shift"], SOFTMAX | {name: value}, "s")


def test_an_option_that_does_not_exist() -> None:
    with pytest.raises(PlanError, match="there is no option 'nothing'"):
        check_options(registry.approximations()["gelu_quad"], {"nothing": 1}, "s")


def test_a_domain_without_what_it_depends_on() -> None:
    options = {name: value for name, value in SOFTMAX.items() if name != "low"}
    with pytest.raises(PlanError, match="'low'"):
        domain_of(registry.approximations()["softmax_mean_shift"], options, "s")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gelu_grid", {"grid": [0, 1, 30, 9]}),
        ("gelu_grid", {"grid": [0, 1]}),
        ("gelu_grid", {"grid": [0.0, -1.0, 4, 3]}),
        ("softmax_grid", {"exp": [0.0, 1.0, 4, 3], "reciprocal": [0.5, 1.0, 4, 3], "shifts": [[2.0, 0.1]]}),
        ("softmax_grid", {"exp": [0.0, 1.0, 4, 3], "reciprocal": [0.5, 1.0, 4, 3], "shifts": [[0.0, 0.1, [0.0, 1.0, 4, 3]] * 2]}),
        ("layer_norm_grid", {"grid": [0.0, 1.0, 4, 3], "least": -1.0}),
    ],
)
def test_a_grid_that_is_none_is_refused(name: str, options: dict[str, Any]) -> None:
    case = cases_of(registry.approximation(name).operator)[0]
    with pytest.raises(PlanError):
        expand(case.graph(), Plan({case.site: Choice(name, options)}), registry.approximations())
