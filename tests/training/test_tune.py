"""`mpcc tune`: loss and predicted latency fall, the plan meets the budget, an interrupted training ends like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mpcc
from mpcc import registry
from mpcc.approximate import Approximation, Split
from mpcc.bundle import open_bundle
from mpcc.errors import BudgetError, UsageError
from mpcc.ir import mpc
from mpcc.runtime.executable import Executable
from mpcc.training import Checkpoint, Hyperparameters, Request, Tuned, device_of
from tests.models.tuning import data, graph, tuning

BUDGET = "1.1s"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tuning(tmp_path_factory.mktemp("tuned"), "mpcc", budget=BUDGET).run()


def test_loss_and_predicted_latency_fall_and_the_plan_meets_the_budget(tuned: Tuned) -> None:
    search = [row for row in tuned.rows if row.stage == "search"]
    assert search[1].loss < search[0].loss
    assert search[1].predicted is not None and search[0].predicted is not None
    assert search[1].predicted < search[0].predicted
    assert float(tuned.optimized.estimate.seconds) <= 1.1
    assert tuned.original_accuracy > 0.8 and tuned.accuracy > 0.3  # a tenth by chance


def test_the_program_computes_the_trained_model(tuned: Tuned) -> None:
    assert tuned.optimized.errors["top1_agreement"] == 1.0
    assert tuned.optimized.errors["max_error"] < 0.1


def test_the_bundle_holds_the_model_that_was_trained(tuned: Tuned, tmp_path: Path) -> None:
    opened = open_bundle(tuned.optimized.save(tmp_path / "b.mpcc"))
    images = data().test.images[:4]
    expected = tuned.optimized.executable().emulate(images)
    assert torch.equal(Executable.of(opened).emulate(images), expected)
    assert Executable.of(opened).plan.choices == tuned.optimized.plan.choices


@pytest.mark.parametrize("at", [("search", 12), pytest.param(("train", 13), marks=pytest.mark.slow)])
def test_a_resumed_training_ends_like_an_uninterrupted_one(at: tuple[str, int], tuned: Tuned, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tuning(tmp_path, "mpcc", budget=BUDGET, progress=_stop(*at)).run()
    seen: list[str] = []
    resumed = tuning(tmp_path, "mpcc", budget=BUDGET, report=lambda row: seen.append(row.stage)).run()
    assert len(seen) < 4
    assert resumed.rows == tuned.rows
    assert resumed.picks == tuned.picks and resumed.accuracy == tuned.accuracy
    for name, value in tuned.optimized.program.constants.items():
        assert torch.equal(value, resumed.optimized.program.constants[name])


def _stop(stage: str, step: int) -> Callable[[str, int, int], None]:
    def progress(now: str, done: int, total: int) -> None:
        if now == stage and done == step:
            raise KeyboardInterrupt

    return progress


def test_mpcvit_splits_heads_and_tokens(tmp_path: Path) -> None:
    made = tuning(tmp_path, "mpcvit+", mu=0.5).run()
    chosen = [name for names in made.picks.values() for name in names]
    assert chosen.count("softmax_relu") == chosen.count("softmax_scaling") == 2  # of 2 layers of 2 heads
    assert chosen.count("exact") == chosen.count("gelu_identity") == 4  # of 2 layers of 4 tokens
    assert made.optimized.errors["max_error"] < 0.1
    for names, entry in zip(made.picks.values(), (made.optimized.plan.choices[s] for s in made.picks), strict=True):
        assert isinstance(entry, Split) == (len(set(names)) > 1)


@pytest.mark.parametrize("name", ["mpcvit", "softmax"])
def test_what_a_recipe_leaves_alone_stays_exact(tmp_path: Path, name: str) -> None:
    made = tuning(tmp_path, name, mu=0.5 if name == "mpcvit" else None).run()
    assert len(made.picks) == (2 if name == "mpcvit" else 0)  # its softmaxes
    assert len(made.optimized.plan.choices) > 4 and made.optimized.errors["max_error"] < 0.1


def test_a_device_that_is_not_there_is_a_usage_error() -> None:
    assert device_of("cpu").type == "cpu"
    for name in ("cuda:99", "abacus"):
        with pytest.raises(UsageError, match="cannot train on"):
            device_of(name)


def test_what_is_priced_before_training_is_near_what_it_takes(tmp_path: Path, tuned: Tuned) -> None:
    """Everything at its cheapest lets values grow out of range, unless choices are fitted to what they see."""
    before = tuning(tmp_path, "mpcc", budget="1.1s").setup
    names = {g.site: [c.name for c in g.candidates] for g in before.gates}
    picks = {site: tuple(own.index(name) for name in tuned.picks[site]) for site, own in names.items()}
    assert float(before.estimate(picks).seconds) == pytest.approx(float(tuned.optimized.estimate.seconds), rel=0.15)
    cheap = {"softmax_scaling", "gelu_identity", "layer_norm_static"}
    least = {site: (next(k for k, name in enumerate(own) if name in cheap),) for site, own in names.items()}
    exact = {site: (own.index("exact"),) for site, own in names.items()}
    assert before.estimate(least).rounds < before.estimate(exact).rounds / 2


def test_a_budget_that_no_candidate_meets_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="cheapest"):
        tuning(tmp_path, "mpcc", budget="10ms").run()
    assert not (tmp_path / "checkpoint").exists()


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "c", "these settings").write({"stage": "train"}, {"weights": {"w": torch.ones(2)}})
    found = Checkpoint(tmp_path / "c", "these settings").read()
    assert found is not None and torch.equal(found.group("weights")["w"], torch.ones(2))
    with pytest.raises(UsageError, match="other settings"):
        Checkpoint(tmp_path / "c", "those settings").read()
    (tmp_path / "c").write_bytes(b"torn")
    with pytest.raises(UsageError, match="readable checkpoint"):
        Checkpoint(tmp_path / "c", "these settings").read()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mpcc", {}, "chosen under a budget"),
        ("mpcvit", {}, "needs a share"),
        ("scaling", {"mu": 0.5}, "takes no share"),
        ("mpcvit", {"mu": 1.5}, "between 0 and 1"),
        ("mpcformer2", {}, "mpcformer"),
        ("scaling", {"granularity": "pixel"}, "unknown granularity"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Request.of(method, **options)


def test_a_share_may_stand_behind_the_name() -> None:
    assert Request.of("mpcvit:0.5") == Request.of("mpcvit", mu=0.5)


def test_every_structural_approximation_is_a_candidate_those_of_other_packages_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = Approximation(
        "gelu_half", "gelu", "structural", "a test", lambda x: mpc.scale(x, 0.5), summary="half of x"
    )
    known = {**registry.approximations(), own.name: own}
    monkeypatch.setattr(registry, "approximations", lambda: known)
    for gate in tuning(tmp_path, "mpcc", budget="1.1s").setup.gates:
        names = [candidate.name for candidate in gate.candidates]
        assert names[0] == "exact" and ("gelu_half" in names) == (gate.operator == "gelu")


def test_the_python_face_is_what_the_command_does(tmp_path: Path) -> None:
    hyper = Hyperparameters(epochs=1, batch=64)
    made = mpcc.tune(graph(), data(), method="scaling", search_epochs=1, hyperparameters=hyper, checkpoint=tmp_path / "c")
    assert [row.epoch for row in made.rows] == [1, 2] and (tmp_path / "c").is_file()
    assert {choice for row in made.picks.values() for choice in row} == {"softmax_scaling"}
    made.save(tmp_path / "b.mpcc")
    assert (tmp_path / "b.mpcc" / "plan.json").is_file() and not (tmp_path / "c").exists()
