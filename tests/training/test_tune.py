"""`mpcc tune`: loss and predicted latency fall, the plan meets the budget, an interrupted training ends as an unbroken one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mpcc.approximate import Split
from mpcc.bundle import open_bundle
from mpcc.errors import BudgetError, UsageError
from mpcc.runtime.executable import Executable
from mpcc.training import Checkpoint, device_of, method
from mpcc.training.tune import Tuned, Wanted
from tests.models.tuning import data, tuning

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
def test_a_training_that_was_stopped_ends_as_an_unbroken_one(at: tuple[str, int], tuned: Tuned, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tuning(tmp_path, "mpcc", budget=BUDGET, tell=_stop(*at)).run()
    seen: list[str] = []
    resumed = tuning(tmp_path, "mpcc", budget=BUDGET, report=lambda row: seen.append(row.stage)).run()
    assert len(seen) < 4
    assert resumed.rows == tuned.rows
    assert resumed.picks == tuned.picks and resumed.accuracy == tuned.accuracy
    for name, value in tuned.optimized.program.constants.items():
        assert torch.equal(value, resumed.optimized.program.constants[name])


def _stop(stage: str, step: int) -> Callable[[str, int, int], None]:
    def tell(now: str, done: int, total: int) -> None:
        if now == stage and done == step:
            raise KeyboardInterrupt

    return tell


def test_mpcvit_splits_heads_and_tokens(tmp_path: Path) -> None:
    made = tuning(tmp_path, "mpcvit+", mu=0.5).run()
    chosen = [name for names in made.picks.values() for name in names]
    assert chosen.count("softmax_relu") == chosen.count("softmax_scaling") == 2  # of 2 layers of 2 heads
    assert chosen.count("exact") == chosen.count("gelu_identity") == 4  # of 2 layers of 4 tokens
    assert made.optimized.errors["max_error"] < 0.1
    for names, entry in zip(made.picks.values(), (made.optimized.plan.choices[s] for s in made.picks), strict=True):
        assert isinstance(entry, Split) == (len(set(names)) > 1)


@pytest.mark.parametrize("name", ["mpcvit", "softmax"])
def test_what_a_method_leaves_alone_stays_exact(tmp_path: Path, name: str) -> None:
    made = tuning(tmp_path, name, mu=0.5 if name == "mpcvit" else None).run()
    assert len(made.picks) == (2 if name == "mpcvit" else 0)  # its softmaxes
    assert len(made.optimized.plan.choices) > 4 and made.optimized.errors["max_error"] < 0.1


def test_a_device_that_is_not_there_is_a_usage_error() -> None:
    assert device_of("cpu").type == "cpu"
    for name in ("cuda:99", "abacus"):
        with pytest.raises(UsageError, match="cannot train on"):
            device_of(name)


def test_what_is_priced_before_training_is_near_what_it_takes(tmp_path: Path, tuned: Tuned) -> None:
    """Everything at its cheapest leaves values out of proportion, until members are fitted to what they see."""
    before = tuning(tmp_path, "mpcc", budget="1.1s")
    picks = {g.site: tuple([c.name for c in g.candidates].index(n) for n in tuned.picks[g.site]) for g in before.gates}
    assert float(before.provisional(picks).seconds) == pytest.approx(float(tuned.optimized.estimate.seconds), rel=0.15)
    least = before.provisional({g.site: (len(g.candidates) - 1,) * g.positions for g in before.gates})
    assert least.rounds < before.provisional({g.site: (0,) * g.positions for g in before.gates}).rounds / 2


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


def test_methods_and_options_that_do_not_fit() -> None:
    for wanted, text in (
        (Wanted(method("mpcc")), "budget"),
        (Wanted(method("mpcvit")), "--mu"),
        (Wanted(method("scaling"), mu=0.5), "means nothing"),
        (Wanted(method("mpcvit"), mu=1.5), "between 0 and 1"),
    ):
        with pytest.raises(UsageError, match=text):
            wanted.check()
    with pytest.raises(UsageError, match="mpcformer"):
        method("mpcformer2")
