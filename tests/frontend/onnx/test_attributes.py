"""Every attribute is used or refused: one that no handler asks for is named, whatever the operator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from mpcc.errors import UnsupportedOperator
from mpcc.frontend.onnx import import_graph
from mpcc.frontend.onnx.attributes import WITHOUT_EFFECT
from mpcc.frontend.onnx.operators import OPERATORS
from tests.models.onnx_build import model


def one(kind: str, shape: tuple[int, ...] = (2, 4), domain: str = "", opset: int = 17, **attributes: object) -> None:
    node = helper.make_node(kind, ["x"], ["y"], name="/layer/Node", domain=domain, **attributes)
    import_graph(model([node], {"x": shape}, ["y"], opset=opset))


@pytest.mark.parametrize("kind", ["Gelu", "QuickGelu", "FastGelu"])
def test_an_attribute_that_is_not_asked_for_is_named(kind: str) -> None:
    """onnx's checker knows no operator of that domain, so the reader has to."""
    with pytest.raises(UnsupportedOperator, match="/layer/Node.*the attribute window is not supported"):
        one(kind, domain="com.microsoft", window=3)


@pytest.mark.parametrize(("name", "value"), [("keepdims", 2), ("keepdims", -1), ("axes", [5]), ("axes", [-3])])
def test_values_that_an_attribute_cannot_have(name: str, value: object) -> None:
    with pytest.raises(UnsupportedOperator, match="neither 0 nor 1|there is no axis"):
        one("ReduceMax", **{name: value})


@pytest.mark.parametrize("axis", [2, -3, 10**9])
def test_axes_are_never_counted_round(axis: int) -> None:
    with pytest.raises(UnsupportedOperator, match=f"there is no axis {axis} among 2"):
        one("Softmax", axis=axis)


def test_an_attribute_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="alpha is of the wrong type"):
        one("QuickGelu", domain="com.microsoft", alpha="1.7")


def test_a_default_is_no_obstacle() -> None:
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear", cubic_coeff_a=-0.75, nearest_mode="floor")
    import_graph(model([node], {"x": [1, 1, 4, 4]}, ["y"], {"s": np.array([1, 1, 2, 2], np.float32)}))


def test_what_is_without_effect_is_of_operators_that_are_read() -> None:
    kinds = {kind for _, kind in OPERATORS}
    assert {kind for kind, _ in WITHOUT_EFFECT if kind is not None} <= kinds
    assert all(len(why) > 5 for why in WITHOUT_EFFECT.values())
