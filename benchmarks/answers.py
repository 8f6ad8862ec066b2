"""What a client learns from many answers to few inputs: the attack, run on an MLP, and the figures of docs/security.md.

    python -m benchmarks.answers            |cos| with the head's columns and error, by answers, with the noise and without
    python -m benchmarks.answers --write    the table in docs/security.md as well

The rows of a batch have masks of their own, so one run of a batch is many answers. Both parties' kernels and the dealer's
program run in this process, as in a session, and the client's view is what it would see: every opened value, its own shares, and
the output.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn

import mpcc
from mpcc.ir import curve, online
from mpcc.ir.info import scale_of
from mpcc.lowering import Settings
from mpcc.lowering.flood import Noise, flood
from mpcc.lowering.steps import squared_steps
from mpcc.pipeline import capture
from mpcc.program import Program
from mpcc.program.program import encode_tensor
from mpcc.runtime.dealer.dealing import SessionSeeds
from mpcc.runtime.dealer.material import Recipe
from mpcc.runtime.dealer.randomness import fresh_seed, noise
from mpcc.runtime.engine.evaluate import Party
from tests.models.vit_lite import smooth_image, vit_lite_7_4_32

BATCH = 1024
COUNTS = (256, 8192, 16384)
OUTPUTS = (10, 100)
INPUTS = 4
HIDDEN = 6
ROUNDS = 12
"""Of the attack, over all hidden values: it has settled after about five."""
ROOT = Path(__file__).parents[1]
PAGE, DIGITS = ROOT / "docs" / "security.md", ROOT / "examples" / "digits_vit"
START, END = "<!-- python -m benchmarks.answers --write -->", "<!-- end -->"


def mlp(outputs: int) -> nn.Sequential:
    """8 inputs, HIDDEN hidden values, `outputs` outputs, of which a spread of about 1 is usual."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, outputs))
    with torch.no_grad():
        model[0].weight.mul_(2)
        model[2].weight.mul_(3)
    return model.eval()


@dataclass(frozen=True)
class View:
    """What the client has seen of many answers: of each truncated value the low bits of what was opened for it, as fractions
    of a unit [truncations, answers], in groups of HIDDEN, and the outputs [answers, outputs]."""

    low: Tensor
    outputs: Tensor


@dataclass(frozen=True)
class Truncation:
    """What the client knows of it: the value of `name` times `sign`, plus `added`, of which `cut` bits are dropped."""

    name: str
    cut: int
    added: int = 0
    sign: int = 1

    def low(self, known: Tensor) -> Tensor:
        """The bits that decide, with those of the hidden value, whether there is a step."""
        return ((self.sign * known + self.added) & ((1 << self.cut) - 1)).double() / (1 << self.cut)


def truncations(program: Program) -> list[Truncation]:
    """Of the hidden layer: the program is public. What is told apart here is what `squared_steps` counts."""
    found = []
    for (node, cut), steps in squared_steps(program, [inputs(BATCH)])[0].items():
        if steps.shape[-1] != HIDDEN:
            continue
        if node.target is curve.curve:  # the piece is the next one where the low bits borrow
            found.append(opened(node.all_input_nodes[0], int(str(node.args[4]))))
        elif node.target is online.truncate_locally:
            found.append(local(str(node.args[0]), cut))
        else:
            found.append(opened(node, cut))
    assert found, "no truncation of the hidden layer: nothing to attack"
    return found


def local(share: str, cut: int) -> Truncation:
    """By each party alone: of half - x1 = q 2^cut + r the client drops r, and the sum is floor((X + r) / 2^cut)."""
    return Truncation(share, cut, 1 << cut >> 1, -1)


def opened(node: fx.Node, cut: int) -> Truncation:
    """Of an opening, or of one that a public number was added to."""
    if node.target is online.moved:
        opening, added = node.args
        return Truncation(str(opening), cut, int(str(added)))
    assert node.target is online.open_, node
    return Truncation(node.name, cut)


def compiled(model: nn.Module, rows: int, settings: Settings) -> Program:
    made = mpcc.compile(model, (torch.zeros(rows, 8),), calibration=inputs(max(256, 2 * rows)), settings=settings)
    assert isinstance(made, mpcc.Executable)
    return made.program


def inputs(count: int) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(2))


def attacked(model: nn.Module, settings: Settings) -> Program:
    """The program of a batch, with the noise of the program of a single row."""
    single, batch = compiled(model, 1, settings), compiled(model, BATCH, settings)
    units = [size * abs(scale) for size, (_, scale) in zip(single.flood, batch.outputs, strict=True)]
    return flood(batch, [Noise(round(math.log2(size))) if size else Noise() for size in units])


def keeping(party: Party) -> Party:
    """The same party, which drops no value of an inference before the next: whoever computes it has it."""
    steps = party.steps
    offline, *segments = ([replace(step, dead=()) for step in part] for part in (steps.offline, *steps.segments))
    party.steps = replace(steps, offline=offline, segments=segments)
    return party


def answers(program: Program, x: Tensor, count: int, seeds: SessionSeeds | None = None) -> View:
    """The client's view of `count` answers to the input x [8]. With `seeds`, the same each time."""
    cuts = truncations(program)
    found = list(_session(program, x.expand(BATCH, -1), cuts, -(-count // BATCH), seeds or SessionSeeds.fresh()))
    low, outputs = (torch.cat(parts, dim)[..., :count, :] for parts, dim in zip(zip(*found, strict=True), (1, 0), strict=True))
    return View(low.transpose(1, 2).flatten(0, 1), outputs)


def _session(
    program: Program, rows: Tensor, cuts: Sequence[Truncation], count: int, seeds: SessionSeeds
) -> Iterator[tuple[Tensor, Tensor]]:
    """The low bits [cuts, BATCH, HIDDEN] and the outputs [BATCH, outputs] of each of `count` inferences."""
    recipe = Recipe(program)
    parties = Party(program, 0), keeping(Party(program, 1))

    def material(number: int, setup: bool) -> tuple[dict[str, Tensor | None], dict[str, Tensor | None]]:
        both, own = seeds.numbered(number)
        return recipe.both(both, own, setup)

    dealt = material(0, True)
    weights = parties[0].setup_message(dealt[0])
    parties[1].setup_message(dealt[1])
    assert weights is not None
    for party in parties:
        party.finish_setup(weights)
    (node,) = program.inputs()
    encoded = encode_tensor(rows, scale_of(node))
    for number in range(count):
        for party, shares, x in zip(parties, material(number, False), (torch.zeros_like(encoded), encoded), strict=True):
            party.prepare(shares)
            party.start({node.name: x})
        parties[0].take_ahead(parties[1].ahead())
        for index in range(len(program.messages)):
            sent = [party.message(index) for party in parties]
            for party, other in zip(parties, reversed(sent), strict=True):
                party.receive(index, other)
        seen = parties[1].env
        one, other = (party.outputs()[0] for party in parties)
        yield torch.stack([cut.low(seen[cut.name]) for cut in cuts]), (one + other).double() / program.outputs[0][1]


def recovered(views: Sequence[View]) -> Tensor:
    """The step of each hidden value that explains most [HIDDEN, outputs], of all its truncations and inputs.

    At some inputs a hidden value has no step to see: the activation is flat there, or the step lies at the end of its range.
    """
    heights, explained = (torch.cat(parts) for parts in zip(*map(fitted_steps, views), strict=True))
    groups = heights.reshape(-1, HIDDEN, heights.shape[1])
    return groups[explained.reshape(-1, HIDDEN).argmax(dim=0), torch.arange(HIDDEN)]


def fitted_steps(view: View) -> tuple[Tensor, Tensor]:
    """The height of each truncation's step [truncations, outputs], and the variance that it explains: fitted in turn, each to
    what the others leave."""
    orders = view.low.argsort(dim=1)
    rest = view.outputs - view.outputs.mean(0)
    heights = torch.zeros(len(orders), rest.shape[1], dtype=torch.float64)
    fits = torch.zeros(len(orders), *rest.shape, dtype=torch.float64)
    for _ in range(ROUNDS):
        for j, order in enumerate(orders):
            rest += fits[j]
            heights[j], fits[j, order] = _step(rest[order])
            rest -= fits[j]
    return heights, fits.square().sum(dim=(1, 2))


def _step(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The step in a sequence of rows that leaves the least: (its height, the fit). It lies at least a hundredth inside."""
    count = len(rows)
    rows = rows - rows.mean(0)
    left = torch.arange(1, count, dtype=torch.float64)
    explained = rows.cumsum(0)[:-1].square().sum(1) * count / (left * (count - left))
    margin = max(1, count // 100)
    place = margin + int(explained[margin - 1 : count - margin].argmax())
    below, above = rows[:place].mean(0), rows[place:].mean(0)
    return above - below, torch.cat([below.expand(place, -1), above.expand(count - place, -1)])


def cosines(model: nn.Sequential, views: Sequence[View]) -> Tensor:
    """|cos| of what was recovered with the head's columns [HIDDEN]."""
    head = model[2].weight.detach().double()
    return torch.nn.functional.cosine_similarity(recovered(views), head.T, dim=1).abs()


def asked(program: Program, count: int, seeds: SessionSeeds | None = None) -> list[View]:
    """`count` answers in all, to INPUTS inputs in equal parts."""
    return [answers(program, x, count // INPUTS, seeds) for x in inputs(INPUTS)]


def first(view: View, count: int) -> View:
    return View(view.low[:, :count], view.outputs[:count])


# ---- the table -----------------------------------------------------------------------------------------------------


def attack_rows(outputs: int) -> Iterator[list[str]]:
    """One row without the noise and one with it: mean |cos| over the columns, by answers, and the error."""
    model = mlp(outputs)
    for settings in (Settings(answers=0), Settings()):
        program, hidden = attacked(model, settings), compiled(model, 1, settings).hidden
        views = asked(program, max(COUNTS))
        found = [cosines(model, [first(view, count // INPUTS) for view in views]) for count in COUNTS]
        with torch.no_grad():
            errors = [(view.outputs - model(x)).abs() for view, x in zip(views, inputs(INPUTS), strict=True)]
        error = torch.cat(errors)
        yield [
            f"MLP 8-{HIDDEN}-{outputs}", f"{program.flood[0]:.2g}", f"{hidden:,}", *(f"{float(one.mean()):.3f}" for one in found),
            f"{chance(outputs):.2f}", f"{float(error.mean()):.4f}", f"{float(error.max()):.4f}",
        ]  # fmt: skip


def chance(outputs: int) -> float:
    """The mean |cos| of two random directions."""
    return math.exp(math.lgamma(outputs / 2) - math.lgamma((outputs + 1) / 2)) / math.sqrt(math.pi)


def model_row(name: str, model: nn.Module, example: Sequence[Tensor], calibration: Tensor, images: Tensor) -> list[str]:
    """A model's noise, what it hides, and what it costs: outputs in fixed point with and without, against those in float."""
    made = mpcc.compile(model, example, calibration=calibration)
    assert isinstance(made, mpcc.Executable)
    size, scale = made.program.flood[0], made.program.outputs[0][1]
    squares = torch.cat([one.reshape(-1) for one in squared_steps(made.program, [images[:1]])[0].values()])
    with torch.no_grad():
        expected = torch.cat([model(image) for image in images.split(1)])
    plain = made.emulate(images, check=False)
    assert isinstance(plain, Tensor)
    bits = round(math.log2(size * abs(scale)))
    noisy = plain + (noise(fresh_seed(), "answers", plain.shape, bits) / scale).float()
    hidden = float((squares <= (2 * size) ** 2 / Settings().answers).double().mean())
    largest = (2 * size) ** 2 / float(squares.max())
    errors = [f"{float((found - expected).abs().max()):.4f}" for found in (plain, noisy)]
    same = [f"{float((found.argmax(-1) == expected.argmax(-1)).double().mean()):.2%}" for found in (plain, noisy)]
    said = f"{made.program.hidden:,}"
    return [name, f"{size:.2g}", said, f"{len(squares):,}", f"{hidden:.2%}", f"{largest:,.0f}", *errors, *same]


def model_rows() -> Iterator[list[str]]:
    calibration = torch.cat([smooth_image(32, seed=seed) for seed in range(1000, 1064)])
    images = torch.cat([smooth_image(32, seed=seed) for seed in range(1, 6)])
    yield model_row("ViT-Lite 7/4/32, random weights, 5 images", *vit_lite_7_4_32(), calibration, images)
    with np.load(DIGITS / "calibration.npz") as seen, np.load(DIGITS / "heldout.npz") as held:
        calibration, images = torch.from_numpy(seen["images"]), torch.from_numpy(held["images"])
    model = capture(DIGITS / "model.onnx")
    yield model_row(f"digits ViT, {len(images)} images", model, (images[:1],), calibration, images)


ATTACK = ["model", "noise", "answers hidden", *(f"{count:,} answers" for count in COUNTS), "chance", "mean error",
          "largest error"]  # fmt: skip
MODELS = ["model", "noise", "answers hidden", "truncated values", "hidden in 16,384 answers",
          "answers that hide the highest step", "largest error without noise", "with",
          "same top-1 as in float without noise", "with"]  # fmt: skip


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/security.md")
    arguments = parser.parse_args()
    rows = [row for outputs in OUTPUTS for row in attack_rows(outputs)]
    text = f"{table(ATTACK, rows)}\n\n{table(MODELS, model_rows())}\n"
    print(text)
    if arguments.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        PAGE.write_text(f"{before}{START}\n{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
