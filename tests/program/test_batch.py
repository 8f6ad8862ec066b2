"""Programs for several inputs at once: well formed, masked, of as many rounds, and the same integers for each input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc.errors import UnsupportedOperator
from mpcc.ir import mpc, opcodes
from mpcc.program import Program
from mpcc.program.batch import batched
from mpcc.program.batch_rules import RULES
from mpcc.program.check import check_masks
from mpcc.program.correlations import check_correlations
from mpcc.program.structure import verify
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import SHAPE, Threads, build, program, weights
from tests.models.two_blocks import two_blocks

SIZE = 3


def checked(made: Program, size: int = SIZE) -> Program:
    """The batch, which has to pass everything that a program has to pass, and cost no round more."""
    batch = batched(made, size)
    verify(batch)
    check_masks(batch)
    check_correlations(batch)
    again = Program.from_json(batch.to_json(), batch.constants)
    assert again.digest == batch.digest != made.digest
    one, all_ = made.cost, batch.cost
    assert (all_.rounds, all_.setup_bytes) == (one.rounds, one.setup_bytes)
    assert all_.ahead_bytes <= size * one.ahead_bytes
    assert all_.bytes <= size * one.bytes and all_.dealer_bytes <= size * one.dealer_bytes
    return batch


def same_integers(made: Program, *shapes: tuple[int, ...]) -> None:
    """The emulation of the batch is that of each input."""
    batch = checked(made)
    inputs = [torch.randn(SIZE, *shape) for shape in shapes]
    found = Emulator(batch)(*inputs)
    each = [Emulator(made)(*(x[i] for x in inputs)) for i in range(SIZE)]
    for output, expected in zip(found, zip(*each, strict=True), strict=True):
        assert torch.equal(output, torch.stack(expected))


def test_every_operation_has_a_rule() -> None:
    """A new operation needs one here as well."""
    known = {opcode.function for table in (opcodes.ONLINE, opcodes.DEALER) for opcode in table.values()}
    assert set(RULES) == known


def vectors(x: Any, w: Any, b: Any) -> Any:
    """Values of fewer dimensions than those they meet."""
    y = mpc.linear(x, w, b)
    last = torch.ops.aten.select.int(torch.ops.aten.select.int(y, 0, 0), 0, 1)
    return mpc.add(mpc.mul(y, last), mpc.sum(mpc.square(y), (1,), True))


def pieces(x: Any) -> Any:
    return mpc.curve(x, -8.0, 2.0, tuple((0.1 * i, 0.2, 0.05 * (i % 3)) for i in range(8)))


@pytest.mark.parametrize("name", ["local", "linear", "relu", "mixed"])
def test_small_programs(name: str) -> None:
    same_integers(program(name), SHAPE)


@pytest.mark.parametrize(("function", "given"), [(vectors, weights()), (pieces, {})])
def test_functions(function: Callable[..., Any], given: dict[str, Tensor]) -> None:
    same_integers(build(function, **given), SHAPE)


class Convolutions(nn.Module):
    """[1, 2, 8, 8] -> [1, 3]: strided and grouped convolutions, pooling, padding, a shifted window, a parameter as a token."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(torch.randn(17, 4))
        self.mix, self.head = nn.Parameter(torch.randn(17, 17) / 17), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x + self.second(x).roll((1, 1), (2, 3)).flip(3)
        tokens = torch.cat([self.token, x.flatten(2).transpose(1, 2)], 1) + self.place
        tokens = self.mix @ tokens
        tokens = tokens * tokens[:, :1].softmax(-1)
        return self.head(tokens[:, [0, 3, 5]].amax(1) / 2 + nn.functional.avg_pool1d(tokens.transpose(1, 2), 3).mean(2))


def compiled(model: nn.Module, example: tuple[Tensor, ...]) -> Program:
    made = mpcc.compile(model, example, calibration=torch.randn(32, *example[0].shape[1:]), machine="reference")
    assert isinstance(made, mpcc.Executable)
    return made.program


def test_convolutions_and_views() -> None:
    torch.manual_seed(3)
    same_integers(compiled(Convolutions().eval(), (torch.randn(1, 2, 8, 8),)), (1, 2, 8, 8))


def test_a_transformer() -> None:
    same_integers(compiled(*two_blocks()), (1, 4, 8))


def test_parties_run_it() -> None:
    """Two parties and a dealer, with the batch in the rounds of one."""
    made = program("mixed")
    batch, x = checked(made), torch.randn(SIZE, *SHAPE)
    with Threads(batch) as session:
        (found,) = session.run(x)
    expected = torch.stack([Emulator(made)(one)[0] for one in x])
    assert float((found - expected).abs().max()) < 5e-3 * float(expected.abs().max())


def test_one_is_the_program_itself() -> None:
    made = program("local")
    assert batched(made, 1) is made


def test_what_has_no_rule_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = program("linear")
    monkeypatch.delitem(RULES, opcodes.ONLINE["weight_product"].function)
    with pytest.raises(UnsupportedOperator, match="weight_product has no rule for batches"):
        batched(made, 2)
