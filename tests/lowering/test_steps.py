"""What truncations do to the outputs is found part by part, and is the same however many parts there are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mpcc.ir import mpc
from mpcc.lowering.steps import squared_steps
from mpcc.program.program import Program
from tests.models.programs import NAMES, build, program

aten = torch.ops.aten


def views() -> Program:
    """An opening that is read directly, by way of views, and again far behind; a value that is an output and goes on."""

    def function(x: Any) -> Any:
        for _ in range(12):
            x = mpc.polynomial(x, (0.1, 0.7, 0.02))
        y = mpc.square(x)
        turned = aten.permute.default(y, [0, 2, 1])
        z = mpc.matmul(y, turned)
        again = mpc.polynomial(mpc.gather(z, 2, [1, 0, 2, 4, 3]), (0.1, 0.5, 0.02))
        last = mpc.matmul(again, mpc.mul(y, x))
        for _ in range(12):
            last = mpc.polynomial(last, (0.1, 0.7, 0.02))
        return last, again

    return build(function)


@pytest.mark.parametrize("name", [*NAMES, "views"])
@pytest.mark.parametrize("most", [1, 300, 2000])
def test_parts_make_no_difference(name: str, most: int) -> None:
    made = views() if name == "views" else program(name)
    inputs = [torch.randn(node.meta["val"].shape) for node in made.inputs()]
    whole, outputs = squared_steps(made, inputs)
    found, same = squared_steps(made, inputs, most)
    assert torch.equal(outputs, same) and list(found) == list(whole)
    assert name in ("local", "linear", "relu") or any(float(step.max()) > 0 for step in whole.values())
    for key, step in whole.items():
        torch.testing.assert_close(found[key], step, rtol=1e-4, atol=1e-6 * float(step.max()))
