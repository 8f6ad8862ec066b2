"""Split sites: each part is its own approximation of its own positions, at the price of the parts together."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from mpcc import registry
from mpcc.approximate import Choice, Part, Plan, Split
from mpcc.approximate.expand import expand
from mpcc.calibration.ranges import record_ranges
from mpcc.errors import PlanError
from mpcc.ir import mpc
from mpcc.ir.info import info_of
from mpcc.ir.nn import meta_tensor, name_sites
from mpcc.ir.trace import Recorder
from mpcc.lowering import lower
from mpcc.program import Program

aten = torch.ops.aten
QUAD, RELU, SAME = Choice("gelu_quad"), Choice("gelu_relu"), Choice("gelu_identity")
SCALING, SQUARES = Choice("softmax_scaling"), Choice("softmax_2quad", {"chain": [[[0.08, -0.001], []]], "high": 60.0})


def graph_of(function: Callable[..., Any], *shape: int, **parameters: Tensor) -> fx.GraphModule:
    graph, root = fx.Graph(), nn.Module()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(shape, device="meta")
    held = {}
    for name, value in parameters.items():
        setattr(root, name, nn.Parameter(value))
        held[name] = graph.get_attr(name)
        held[name].meta["val"] = meta_tensor(value)
    graph.output(Recorder(graph, {"layer": "layer", "made_by": ()}).call(function, x, **held))
    name_sites(graph)
    return fx.GraphModule(root, graph)


def gelu(x: Any) -> Any:
    return aten.gelu.default(x)


def softmax(x: Any) -> Any:
    return aten.softmax.int(x, -1)


def expanded(graph: fx.GraphModule, site: str, choice: Choice | Split) -> fx.GraphModule:
    return expand(graph, Plan({site: choice}), registry.approximations())


def program(graph: fx.GraphModule, inputs: Tensor) -> Program:
    record_ranges(graph, inputs)
    return lower(graph)


def function(choice: Choice) -> Callable[..., Tensor]:
    approximation = registry.approximations()[choice.approximation]
    return lambda *args, **kwargs: approximation.function(*args, **kwargs, **choice.options)


@pytest.mark.parametrize("dim", [1, -2, 2, -1])
def test_every_part_is_its_own_function_of_its_own_positions(dim: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 5)
    split = Split(dim, (Part((0, 3), QUAD), Part((1,), SAME), Part((2, 4), RELU)))
    found = expanded(graph_of(gelu, 2, 5, 5), "layer.gelu", split)(x)
    for part in split.parts:
        for position in part.index:
            torch.testing.assert_close(
                found.select(dim, position), function(part.choice)(x).select(dim, position), rtol=0, atol=0
            )


@pytest.mark.parametrize("dim", [1, -2])
def test_heads_and_tokens_of_a_softmax(dim: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 4, 6)
    split = Split(dim, (Part((0, 3), SQUARES), Part((1, 2), SCALING)))
    found = expanded(graph_of(softmax, 1, 4, 4, 6), "layer.softmax", split)(x)
    for part in split.parts:
        index = torch.tensor(part.index)
        expected = function(part.choice)(x, -1).index_select(dim, index)
        torch.testing.assert_close(found.index_select(dim, index), expected, rtol=0, atol=0)


def test_rounds_are_the_longest_part_and_bytes_the_sum() -> None:
    """One comparison of 3 of 8 tokens; the quadratic ones wait for nobody."""
    torch.manual_seed(0)
    calls = torch.randn(4, 1, 8, 5)
    graph = graph_of(gelu, 1, 8, 5)

    def cost(choice: Choice | Split, tokens: int = 8) -> tuple[int, int]:
        made = graph if tokens == 8 else graph_of(gelu, 1, tokens, 5)
        found = program(expanded(made, "layer.gelu", choice), calls[:, :, :tokens]).cost
        return found.rounds, found.bytes - 8 * tokens * 5  # without the output, which travels alone

    split = cost(Split(1, (Part((0, 4, 5), RELU), Part((1, 2, 3, 6, 7), QUAD))))
    relu, quad = cost(RELU, 3), cost(QUAD, 5)
    assert quad[0] < relu[0]
    assert split == (relu[0], relu[1] + quad[1])


def test_a_part_says_where_it_comes_from() -> None:
    split = Split(1, (Part((0, 2), RELU), Part((1,), QUAD)))
    graph = expanded(graph_of(gelu, 1, 3, 4), "layer.gelu", split)
    parts = {n.meta.get("part") for n in graph.graph.nodes if n.target in (mpc.less, mpc.polynomial)}
    assert parts == {"0,2", "1"}
    made = program(graph, torch.randn(4, 1, 3, 4))
    origins = [info_of(n).origin for n in made.online.graph.nodes if n.op == "call_function"]
    opened = {(origin.site, origin.part) for origin in origins if origin.primitive == "less"}
    assert opened == {("layer.gelu", "0,2")}


WRONG = {
    "dimension": (gelu, (1, 3, 4), Split(3, (Part((0,), QUAD),)), "there is no dimension 3 in an input of shape [1, 3, 4]"),
    "outside": (gelu, (1, 3, 4), Split(1, (Part((0, 1, 2, 3), QUAD),)), "position 3 is outside dimension 1 of size 3"),
    "short": (gelu, (1, 3, 4), Split(1, (Part((0,), QUAD),)), "position(s) 1-2 of dimension 1 belong to no part"),
    "summed": (softmax, (1, 3, 4), Split(2, (Part((0, 1, 2, 3), SCALING),)), "works along dimension 2"),
    "unknown": (gelu, (1, 1), Split(1, (Part((0,), Choice("gelu_cubic")),)), "'gelu_cubic' does not exist"),
    "operator": (gelu, (1, 1), Split(1, (Part((0,), SCALING),)), "softmax_scaling replaces softmax, not gelu"),
    "options": (gelu, (1, 1), Split(1, (Part((0,), Choice("gelu_relu", {"x": 1})),)), "options of gelu_relu do not fit"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_split_that_does_not_fit_is_refused(name: str) -> None:
    operator, shape, split, message = WRONG[name]
    with pytest.raises(PlanError, match=re.escape(message)) as raised:
        expanded(graph_of(operator, *shape), f"layer.{operator.__name__}", split)
    assert raised.value.where == f"site layer.{operator.__name__}"


def test_sites_that_are_not_there_and_sites_that_are_missing() -> None:
    graph = graph_of(gelu, 1, 3)
    with pytest.raises(PlanError, match="no such site") as raised:
        expand(graph, Plan({"layer.gelu": QUAD, "layer.gelu#2": QUAD}), registry.approximations())
    assert raised.value.hint == "Did you mean layer.gelu?"
    with pytest.raises(PlanError, match=re.escape("no choice for 1 site(s): layer.gelu")):
        expand(graph, Plan({}), registry.approximations())
