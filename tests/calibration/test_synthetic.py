"""Inputs made from the model: the same every time, in the range of the model's own inputs, judged by another family."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc import registry
from mpcc.approximate.logit_margin import STRETCH, SYNTHETIC_STRETCH
from mpcc.calibration import calibrate
from mpcc.calibration.basis import ENOUGH
from mpcc.calibration.synthetic import Synthetic, configured_range, synthesise
from mpcc.pipeline import prepare
from mpcc.search.evidence import TOLERATED, fitted_to

NUMBERS = {"MOST": 224, "MOST_JUDGING": 192, "MOST_INVERTED": 32}


@pytest.fixture(autouse=True)
def all_synthetic_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a user gets."""
    module = importlib.import_module("mpcc.calibration.synthetic.synthesise")
    for name, number in NUMBERS.items():
        monkeypatch.setattr(module, name, number)


class Classifier(nn.Module):
    """Patches, one attention without learned parts, a head: [1, channels, side, side] -> [1, 5]."""

    def __init__(self, channels: int = 1, sharp: float = 1.0) -> None:
        super().__init__()
        self.stem, self.head, self.sharp = nn.Conv2d(channels, 8, 4, 4), nn.Linear(8, 5), sharp

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        tokens = (self.sharp * tokens @ tokens.transpose(-2, -1)).softmax(-1) @ tokens
        return self.head(tokens.mean(1))


class Normalised(nn.Module):
    """Takes pixels in [0, top] and normalises them itself."""

    def __init__(self, top: float) -> None:
        super().__init__()
        self.inner, self.top = Classifier(3), top
        self.register_buffer("mean", torch.tensor([0.48, 0.46, 0.41]).reshape(3, 1, 1) * top)
        self.register_buffer("deviation", torch.tensor([0.23, 0.22, 0.22]).reshape(3, 1, 1) * top)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x - self.mean) / self.deviation)


class Flagged(nn.Module):
    """A picture and a mask of its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, image: Tensor, row_mask: Tensor) -> Tensor:
        return self.head((image[:, 0] * row_mask[:, :, None]).sum(1))


def made_for(model: nn.Module, *shapes: tuple[int, ...], **options: Any) -> Synthetic:
    torch.manual_seed(0)
    return synthesise(mpcc.capture(model.eval(), tuple(torch.zeros(shape) for shape in shapes)), **options)


def test_the_same_graph_gives_the_same_inputs() -> None:
    model = Classifier()
    first, second = made_for(model, (1, 1, 8, 8)), made_for(model, (1, 1, 8, 8))
    assert first.inverted > 0
    assert torch.equal(first.columns[0], second.columns[0]) and torch.equal(first.judge[0], second.judge[0])


def test_a_picture_is_what_a_normalised_one_can_be_and_a_gain_makes_it_larger() -> None:
    made = made_for(Classifier(), (1, 1, 8, 8))
    (kind,) = made.kinds
    assert kind.kind == "picture" and made.columns[0].min() >= kind.low and made.columns[0].max() <= kind.high
    assert max(float(call[0].max()) for call in made.calls(1.5)) == pytest.approx(1.5 * float(made.columns[0].max()))


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_a_normalisation_inside_the_model_tells_the_range(top: float) -> None:
    (kind,) = made_for(Normalised(top), (1, 3, 8, 8)).kinds
    assert (kind.low, kind.high) == (0.0, top) and "inside the model" in kind.source


def test_the_configuration_of_a_model_tells_the_range_and_the_user_has_the_last_word() -> None:
    model = Classifier(3)
    model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.25)}
    assert configured_range(model) == (-2.0, 2.0)
    graph = mpcc.capture(model.eval(), (torch.zeros(1, 3, 8, 8),))
    assert configured_range(graph) == (-2.0, 2.0)
    (kind,) = synthesise(graph, configured=configured_range(graph)).kinds
    assert (kind.low, kind.high) == (-2.0, 2.0)
    (kind,) = synthesise(graph, configured=configured_range(graph), input_range=(0.0, 1.0)).kinds
    assert (kind.low, kind.high) == (0.0, 1.0)


QUESTIONS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "equal to 0": (lambda t: t == 0, "mask"),
    "a part unequal to 1": (lambda t: t[:, :1] != 1, "mask"),
    "equal to 3": (lambda t: t == 3, "features"),
    "above 0": (lambda t: t > 0, "features"),
}


class Asks(nn.Module):
    """Tokens [1, 3, 4] times the answer to a question about the other input [1, 3]."""

    def __init__(self, question: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.question = nn.Linear(4, 4), question

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layer(x) * self.question(t)[..., None]


@pytest.mark.parametrize("asked", QUESTIONS)
def test_what_is_compared_with_zero_or_one_is_a_mask(asked: str) -> None:
    """Whatever it is called: of real numbers nobody asks whether they are 0."""
    question, kind = QUESTIONS[asked]
    graph = mpcc.capture(Asks(question), (torch.zeros(1, 3, 4), torch.zeros(1, 3)))
    assert [one.kind for one in synthesise(graph).kinds] == ["features", kind]


class Embedded(nn.Module):
    """Positions of a table are added to embeddings [1, 6, 16], as transformers begin."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.positions = nn.Parameter(size * torch.randn(10, 16, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("ids", torch.arange(6))
        self.norm, self.layer = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.norm(x + self.positions[self.ids]))


@pytest.mark.parametrize("size", [0.02, 3.0])
def test_embeddings_are_about_as_large_as_what_is_added_to_them(size: float) -> None:
    made = synthesise(mpcc.capture(Embedded(size), (torch.zeros(1, 6, 16),)))
    for column in (*made.columns, *made.judge):
        assert size < column.square().mean().sqrt() < 4 * size


def test_features_fill_the_range_that_is_given() -> None:
    """Some of them near its middle, not all at its ends."""
    made = synthesise(mpcc.capture(Embedded(1.0), (torch.zeros(1, 6, 16),)), input_range=(0.0, 0.1))
    for column in (*made.columns, *made.judge):
        assert column.min() >= 0 and column.max() <= 0.1
        assert ((column > 0.02) & (column < 0.08)).double().mean() > 0.5


def test_masks_are_masks_and_several_inputs_come_together() -> None:
    made = made_for(Flagged(), (1, 1, 8, 8), (1, 8))
    assert [kind.kind for kind in made.kinds] == ["picture", "mask"]
    assert set(made.columns[1].unique().tolist()) == {0.0, 1.0} and len(made.columns[0]) == len(made.columns[1])
    assert all(set(call[1].unique().tolist()) <= {0.0, 1.0} for call in made.calls(2.0))  # a gain leaves masks alone


def test_the_two_families_share_no_input() -> None:
    made = made_for(Classifier(), (1, 1, 8, 8))
    seen = {one.numpy().tobytes() for one in made.columns[0]}
    assert not any(one.numpy().tobytes() in seen for one in made.judge[0])


def test_inputs_grow_until_the_judge_stays_inside() -> None:
    graph = mpcc.transform(Classifier(sharp=2.0).eval(), (torch.zeros(1, 1, 8, 8),))
    made = synthesise(graph)
    narrow = Synthetic(made.kinds, tuple(column * 0.2 for column in made.columns), made.judge, made.inverted)
    _, _, basis = fitted_to(graph, narrow, [], registry.approximations())
    _, _, wide = fitted_to(graph, made, [], registry.approximations())
    assert wide.outside <= TOLERATED < basis.outside or basis.gain > wide.gain


def test_without_images_ranges_allow_for_sharper_attention() -> None:
    graph = mpcc.transform(Classifier().eval(), (torch.zeros(1, 1, 8, 8),))
    calls = synthesise(graph).calls()
    (given,), (made,) = (list(calibrate(graph, calls, synthetic=synthetic).values()) for synthetic in (False, True))
    assert (given.stretch, made.stretch) == (STRETCH, SYNTHETIC_STRETCH)
    ratio = made.ranges["centred"].high / given.ranges["centred"].high
    assert ratio == pytest.approx(SYNTHETIC_STRETCH / STRETCH)


@pytest.mark.parametrize("count", [3, ENOUGH])
def test_few_images_are_filled_up_and_enough_are_not(count: int) -> None:
    images = torch.rand(count, 1, 8, 8)
    prepared = prepare(Classifier().eval(), (torch.zeros(1, 1, 8, 8),), calibration=images)
    assert prepared.basis.given == count and prepared.calibrated
    assert (prepared.basis.synthetic > 0) == (count < ENOUGH)


def test_what_rests_on_synthetic_inputs_says_so() -> None:
    made = mpcc.optimize(Classifier().eval(), (torch.zeros(1, 1, 8, 8),))
    notes = made.plan.notes["calibration"]
    assert not made.calibrated and notes["given"] == 0 and notes["synthetic"] > 0 and notes["judged"] > 0
    assert "others leave a fitted range" in str(made.basis)


class Looked(nn.Module):
    """Token ids, looked up in a table of 50 rows, or compared with the numbers of its rows."""

    def __init__(self, one_hot: bool) -> None:
        super().__init__()
        self.table, self.head, self.one_hot = nn.Embedding(50, 4), nn.Linear(4, 2), one_hot

    def forward(self, ids: Tensor) -> Tensor:
        if not self.one_hot:
            return self.head(self.table(ids)).mean(1)
        return self.head((ids.unsqueeze(-1) == torch.arange(50)).float() @ self.table.weight).mean(1)


@pytest.mark.parametrize("one_hot", [False, True])
def test_token_ids_cover_the_table(one_hot: bool) -> None:
    graph = mpcc.capture(Looked(one_hot).eval(), (torch.zeros(1, 6, dtype=torch.int64),))
    made = synthesise(graph)
    (kind,), ids = made.kinds, torch.stack([call[0] for call in made.calls(2.0)])
    assert (kind.kind, kind.low, kind.high) == ("tokens", 0.0, 49.0)
    assert 0 <= ids.min() < ids.max() <= 49 and torch.equal(ids, ids.round()), "ids of rows, whatever the gain"
