"""The contracts of `mpcc.testing` find a plug-in that breaks them, clause by clause, and pass one that does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import fx, nn

from mpcc.approximate import Approximation
from mpcc.ir import mpc
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit
from mpcc.testing.contracts import check_approximation, check_pass

aten = torch.ops.aten


def ramp(x: Any, *, slope: float = 1.0, joined: bool = True, **recorded: Any) -> Any:
    """A hard sigmoid, which keeps within 0.13 of the sigmoid."""
    below, inside = mpc.less(x, -2.5), mpc.less(x, 2.5)
    line = mpc.add(mpc.scale(x, 0.2 * slope), 0.5)
    return mpc.add(mpc.sub(mpc.sub(mpc.select(inside, line), mpc.select(below, line)), inside), 1.0)


GOOD = Approximation(
    name="my_sigmoid", operator="sigmoid", level="bounded", source="a test", function=ramp, error=lambda options: 0.13,
    candidates=lambda seen: ({"joined": True, "low": seen.ranges["middle"].low},), layout="joined",
    quantities=lambda x: {"middle": x.abs()}, domain=lambda options: {"middle": (0.0, 100.0)}, summary="a hard sigmoid",
)  # fmt: skip

CALLS = itertools.count()
BROKEN = {
    "its summary is empty": {"summary": ""},
    "it declares no source": {"source": ""},
    "there is no level 'deep'": {"level": "deep"},
    "has the option 'floor' that it names": {"trained": ("floor",)},
    "it has no candidate in any case": {"candidates": lambda seen: ()},
    "off, but it declares 0.001": {"error": lambda options: 0.001},
    "only a structural approximation declares no error": {"error": lambda options: None},
    "is too large to be bounded": {"error": lambda options: 0.9},
    "leaves its domain": {"domain": lambda options: {"middle": (0.0, 1.0)}},
    "calibration does not measure 'other'": {"domain": lambda options: {"other": (0.0, 1.0)}},
    "is neither a primitive nor a view": {"function": lambda x, **options: aten.sigmoid.default(x)},
    "do not survive JSON": {"candidates": lambda seen: ({"joined": True, "knots": (1.0, 2.0)},)},
    "a candidate twice": {"candidates": lambda seen: ({"joined": True}, {"joined": True})},
    "other candidates the second time": {"candidates": lambda seen: ({"joined": True, "call": next(CALLS)},)},
    "there are no cases of cosh": {"operator": "cosh"},
}


def test_an_approximation_that_keeps_the_contract_passes() -> None:
    check_approximation(GOOD)


@pytest.mark.parametrize("complaint", BROKEN)
def test_a_broken_approximation_is_found(complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_approximation(replace(GOOD, **BROKEN[complaint]))  # type: ignore[arg-type]


def squares(change: Callable[[Edit, fx.Node], None]) -> Pass:
    """A pass that finds every square."""

    def rewrite(graph_module: fx.GraphModule) -> list[str]:
        edit = Edit(graph_module, "my_pass")
        for node in list(graph_module.graph.nodes):
            if node.target is aten.pow.Tensor_Scalar and node.args[1] == 2:
                change(edit, node)
        return edit.finish()

    return Pass("my_pass", "nn", rewrite, "a test", "Multiplies instead of squaring.", after=("fold_constants",))


def multiplied(edit: Edit, node: fx.Node) -> None:
    edit.replace(node, edit.call(node, aten.mul.Tensor, node.args[0], node.args[0], like=node))


def doubled(edit: Edit, node: fx.Node) -> None:
    edit.replace(node, edit.call(node, aten.mul.Tensor, node.args[0], 2.0, like=node))


def once_more(edit: Edit, node: fx.Node) -> None:
    edit.replace(node, edit.call(node, aten.pow.Tensor_Scalar, node.args[0], 2, like=node))


def without_provenance(edit: Edit, node: fx.Node) -> None:
    multiplied(edit, node)
    for made in edit.graph.nodes:
        if made.target is aten.mul.Tensor:
            made.meta["made_by"] = ()


def wrong_shape(edit: Edit, node: fx.Node) -> None:
    multiplied(edit, node)
    for made in edit.graph.nodes:
        if made.target is aten.mul.Tensor:
            made.meta["val"] = torch.empty(1, device="meta")


class Square(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu() ** 2


def test_a_pass_that_keeps_the_contract_passes() -> None:
    after = check_pass(squares(multiplied), Square(), (torch.randn(3),))
    assert [node.target for node in after.graph.nodes if node.op == "call_function"][-1] is aten.mul.Tensor


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (doubled, "Tensor-likes are not close"),
        (once_more, "changes its own result"),
        (without_provenance, "does not say where it comes from"),
        (wrong_shape, "not the declared one"),
        (lambda edit, node: None, "it changes nothing here"),
    ],
)
def test_a_broken_pass_is_found(change: Callable[[Edit, fx.Node], None], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_pass(squares(change), Square(), (torch.randn(3),))
