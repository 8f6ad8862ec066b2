"""Plug-ins are found by what they are; two of one name and unknown names are errors that say what to do."""

from __future__ import annotations

import warnings
from dataclasses import FrozenInstanceError, dataclass
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from mpcc import registry
from mpcc.errors import Renamed, UsageError


@dataclass(frozen=True)
class Plugin:
    name: str


def module(title: str, **constants: object) -> ModuleType:
    made = ModuleType(title)
    vars(made).update(constants)
    return made


def test_instances_are_collected_by_name_and_sorted() -> None:
    softmax, gelu = Plugin("softmax_exact"), Plugin("gelu_exact")
    modules = [module("a", SOFTMAX=softmax, LIMIT=3, Plugin=Plugin), module("b", GELU=gelu)]
    assert list(registry.collect(modules, Plugin, "approximation").items()) == [
        ("gelu_exact", gelu),
        ("softmax_exact", softmax),
    ]


def test_a_constant_that_another_module_imports_is_one_plugin() -> None:
    gelu = Plugin("gelu")
    assert list(registry.collect([module("a", GELU=gelu), module("b", GELU=gelu)], Plugin, "pass")) == ["gelu"]


def test_two_of_one_name_are_an_error_that_names_both_modules() -> None:
    modules = [module("a", ONE=Plugin("gelu")), module("b", TWO=Plugin("gelu"))]
    with pytest.raises(UsageError, match="two plug-ins are called 'gelu': one in a, one in b"):
        registry.collect(modules, Plugin, "approximation")


def test_an_unknown_name_lists_what_there_is_and_suggests_the_nearest() -> None:
    known = {"softmax_exact": 1, "gelu": 2}
    assert registry.lookup(known, "gelu", "approximation") == 2
    with pytest.raises(UsageError) as caught:
        registry.lookup(known, "softmax_exat", "approximation")
    assert caught.value.what == "there is no approximation called 'softmax_exat'"
    assert caught.value.hint == "did you mean 'softmax_exact'? known: softmax_exact, gelu"


def test_an_entry_point_that_cannot_be_imported_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "no_such_package.softmax", registry.PASSES)
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [point])
    with pytest.raises(UsageError, match="no_such_package.softmax"):
        list(registry._offered(registry.PASSES))


def test_an_entry_point_adds_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "json.decoder", registry.PASSES)
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [point])
    assert [found.__name__ for found in registry._offered(registry.PASSES)] == ["json.decoder"]


def test_the_packaged_modules_are_found_without_their_shared_code() -> None:
    for package in (registry.PASSES, registry.COSTMODELS):
        names = [found.__name__ for found in registry.plugin_modules(package)]
        assert all(name.startswith(f"{package}.") and "._" not in name for name in names)


def test_every_plugin_is_a_frozen_dataclass_constant() -> None:
    for plugin in [*registry.approximations().values(), *registry.passes().values(), *registry.protocols().values()]:
        with pytest.raises(FrozenInstanceError):
            plugin.name = "another"  # type: ignore[misc, union-attr]


def test_a_former_name_still_works_and_says_the_new_one_once() -> None:
    registry._say_renamed.cache_clear()
    with pytest.warns(Renamed, match="'crypten' is now called 'mpcc'"):
        found = registry.protocol("crypten")
    assert found is registry.protocol("mpcc") and found.scheduled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert registry.protocol("crypten") is found


def test_no_former_name_is_a_name() -> None:
    protocols = registry.protocols()
    former = [alias for one in protocols.values() for alias in one.aliases]
    assert len(former) == len(set(former)) and not set(former) & set(protocols)
    assert {one.baseline for one in protocols.values()} - {None} <= set(protocols)
