"""Passes find their place by `after`, and run until none of them changes the graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import fx

from mpcc import registry
from mpcc.errors import InvalidGraph, UsageError
from mpcc.rewrite import Pass, ordered, settle


def named(name: str, *after: str, rewrite: Callable[[fx.GraphModule], list[str]] = lambda graph: []) -> Pass:
    return Pass(name, "nn", rewrite, "a test", "Nothing.", after=after)


def order(*passes: Pass) -> list[str]:
    return [one.name for one in ordered(passes)]


def test_a_pass_stands_behind_those_that_it_names() -> None:
    assert order(named("a", "c"), named("b"), named("c", "b")) == ["b", "c", "a"]


def test_where_that_leaves_a_choice_the_name_decides() -> None:
    assert order(named("c"), named("b"), named("a"), named("d", "a")) == ["a", "b", "c", "d"]


def test_a_third_party_pass_finds_its_place() -> None:
    found = order(*registry.pass_order("nn"), named("mine", "fuse_linear"))
    assert found.index("mine") > found.index("fuse_linear")
    assert [name for name in found if name != "mine"] == [one.name for one in registry.pass_order("nn")]


def test_a_cycle_is_an_error_that_names_its_passes() -> None:
    with pytest.raises(UsageError) as caught:
        ordered([named("a", "b"), named("b", "c"), named("c", "a"), named("d")])
    assert {"a", "b", "c"} <= set(caught.value.what.split(": ")[1].split(" after "))
    assert "d" not in caught.value.what.split(": ")[1].split(" after ")


def test_an_unknown_pass_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        ordered([named("fold"), named("mine", "fodl")])
    assert caught.value.where == "pass mine" and "did you mean 'fold'?" in str(caught.value.hint)


def counting(places: list[int]) -> fx.GraphModule:
    """A graph whose numbers two passes count down."""
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    made = fx.GraphModule(torch.nn.Module(), graph)
    made.meta["places"] = places
    return made


def down(place: int, source: int | None = None) -> Callable[[fx.GraphModule], list[str]]:
    """Take one off a number; as long as it takes one off `source`, that one grows."""

    def rewrite(graph: fx.GraphModule) -> list[str]:
        places = graph.meta["places"]
        if places[place] == 0:
            return []
        places[place] -= 1
        if source is not None:
            places[source] += 1
        return ["x"]

    return rewrite


def test_they_run_until_none_changes_the_graph() -> None:
    """The second makes work for the first, which has run already."""
    ran: list[tuple[str, bool]] = []
    graph = counting([0, 2])
    passes = [named("first", rewrite=down(0)), named("second", rewrite=down(1, 0))]
    settle(graph, passes, lambda rewrite, result: ran.append((rewrite.name, result.modified)))
    assert graph.meta["places"] == [0, 0]
    assert [name for name, modified in ran if modified] == ["second", "first", "second", "first"]
    assert not any(modified for _, modified in ran[-2:])


def test_passes_that_undo_each_other_are_named() -> None:
    graph = counting([1, 0, 0])
    passes = [named("left", rewrite=down(0, 1)), named("right", rewrite=down(1, 0)), named("quiet", rewrite=down(2))]
    with pytest.raises(InvalidGraph, match="still changed by left, right\n"):
        settle(graph, passes)


def test_no_passes_are_settled() -> None:
    graph = counting([1])
    assert settle(graph, []) is graph
