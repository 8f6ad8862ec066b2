"""In how many answers a program's noise hides roundings: said by it, kept by what is made of it, asked for, and refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import mpcc
from benchmarks.answers import HIDDEN, inputs, mlp
from mpcc import registry, security
from mpcc.approximate import Choice
from mpcc.errors import BundleError, PrecisionError, ThinNoise
from mpcc.ir import mpc
from mpcc.lowering import Settings, lower
from mpcc.lowering.flood import Exposure, Noise
from mpcc.lowering.reshare import narrowed
from mpcc.pipeline import Optimized
from mpcc.program.batch import batched
from mpcc.program.program import Program
from mpcc.search.target import Target
from tests.models.programs import SHAPE, build, graph_of

DEFAULT = Settings().answers


def made(model: nn.Module, **settings: Any) -> Optimized:
    target = Target(network="wan", machine="reference", settings=Settings(**settings))
    found = mpcc.optimize(model, (torch.zeros(1, 8),), calibration=inputs(256), target=target)
    assert isinstance(found, Optimized)
    return found


@cache
def noisy() -> Program:
    return build(lambda x: mpc.mul(x, x), SHAPE, Settings())


def test_a_shallow_model_with_a_gate_hides_as_many_as_are_asked_for_by_default() -> None:
    """Its outputs are little larger than its steps, so that the noise is near the most that it may be."""
    found = made(mlp(100))
    assert found.plan.choices["1.gelu"].approximation == "gelu_grid"  # type: ignore[union-attr]
    assert found.program.hidden is not None and DEFAULT <= found.program.hidden < 2 * DEFAULT and found.shortfall == ""


def test_more_than_the_noise_can_hide_is_told_and_what_is_advised_is_enough() -> None:
    with pytest.warns(ThinNoise, match="not 1,000,000; "):
        found = made(mlp(10), answers=1_000_000)
    assert found.program.hidden is not None and found.program.hidden < 1_000_000
    advised = float(found.shortfall.partition("--noise ")[2].split()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ThinNoise)
        assert (made(mlp(10), answers=1_000_000, flood=advised).program.hidden or 0) >= 1_000_000


def test_more_fraction_bits_hide_more() -> None:
    with pytest.warns(ThinNoise):
        few, many = (made(mlp(10), fraction_bits=bits, answers=1 << 30, flood=0.01) for bits in (14, 16))
    assert (many.program.hidden or 0) > 3 * (few.program.hidden or 0)


def test_gates_are_finer_only_where_more_answers_are_asked_for_than_the_noise_hides() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, HIDDEN), nn.Hardswish(), nn.Linear(HIDDEN, 10)).eval()  # kinks: coarse by default
    site, hidden, errors = "1.hardswish", list[int](), list[float]()
    for answers in (1, 1 << 20):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ThinNoise)
            found = made(model, answers=answers, flood=0.01)
        choice = found.plan.choices[site]
        assert isinstance(choice, Choice) and choice.approximation == "hardswish_grid"
        errors.append(registry.approximations()[choice.approximation].error(choice.options))  # type: ignore[misc]
        hidden.append(found.program.hidden or 0)
    assert errors[1] < errors[0] / 2 and hidden[1] > hidden[0]


def test_two_digits_of_it_are_public_and_no_more() -> None:
    """Rounded down, but not below what was asked for and is hidden."""
    exposure, size = Exposure(1.0, 1.0, 1.0), Noise(6, 1)
    assert exposure.hidden(64.0) == 16384.0
    assert [exposure.answers([size], [1.0], asked) for asked in (0, 16_384, 20_000)] == [16_000, 16_384, 16_000]
    assert exposure.answers([Noise(), size], [1.0, 1.0], 1) == 0, "an output without noise hides nothing"


def test_values_that_grow_past_all_bounds_are_a_matter_of_precision() -> None:
    """A search tries plans whose functions do that outside their ranges: such a plan is refused, as any that is too coarse."""
    with pytest.raises(PrecisionError, match="past all bounds"):
        Exposure.of(noisy(), [[torch.full(SHAPE, 1e30)]])


def test_without_noise_or_without_steps() -> None:
    assert lower(graph_of(lambda x: mpc.mul(x, x)), Settings(answers=0)).hidden == 0
    assert lower(graph_of(lambda x: mpc.add(x, x))).hidden == security.ENDLESS


def test_it_is_kept_by_files_and_batches_and_never_raised_by_a_new_scale() -> None:
    found = noisy()
    assert found.hidden is not None and found.hidden >= DEFAULT
    assert Program.from_json(found.to_json(), {}).hidden == batched(found, 3).hidden == found.hidden
    assert (narrowed(found).hidden or 0) <= found.hidden
    coarse = narrowed(found, 6)  # a unit of the outputs is now a step of 1/64
    assert coarse.hidden is not None and coarse.hidden < found.hidden


def test_a_file_of_an_earlier_mpcc_says_nothing_and_keeps_its_digest() -> None:
    former = replace(noisy(), hidden=None)
    read = Program.from_json(former.to_json(), {})
    assert read.hidden is None and read.digest == former.digest and "hidden" not in json.loads(former.to_json())
    assert batched(read, 2).hidden is narrowed(read).hidden is None
    assert "does not say" in security.hides(None)


@pytest.mark.parametrize("value", [-1, True, None, 2.5, "16384", [], security.ENDLESS + 1])
def test_another_kind_of_number_is_refused(value: object) -> None:
    document = json.loads(noisy().to_json()) | {"hidden": value}
    with pytest.raises(BundleError, match="damaged"):
        Program.from_json(json.dumps(document), {})


@pytest.mark.parametrize(
    ("hidden", "said"),
    [(0, "no noise"), (6212, "in 6,212 answers to one client"), (security.ENDLESS, "show no roundings")],
)
def test_the_statements_say_it(hidden: int, said: str) -> None:
    assert said in security.statement(hidden=hidden) and said in security.statement(hidden=hidden, answers=("softmax",))
    assert said in dict(security.served(hidden=hidden))["The noise on the answers"]
    assert said in dict(security.served(("softmax",), ("head.weight",), hidden))["The noise on the answers"]


def test_advice_is_silent_where_it_is_not_needed_and_honest_where_there_is_none() -> None:
    assert security.fewer(10, 10, 0.03) == security.fewer(None, 10, 0.03) == ""
    assert "no noise that leaves an answer" in security.fewer(0, 10, 0.03)
    assert "no noise that leaves an answer" in security.fewer(10, 10**9, 0.03)
