"""Finds plug-ins: approximations, passes, recipes and protocols, each one frozen dataclass bound to a module-level constant.

Every module of the packages `mpcc.passes` and `mpcc.costmodels` is looked into, and every module named by an entry
point of the groups of the same names. A module whose name begins with `_` holds shared code and is skipped.

    approximations()          -> {"softmax_exact": Approximation(...), ...}      sorted by name
    approximation("softmx")   -> UsageError: did you mean "softmax_exact"?
    protocol("crypten")       -> Protocol("mpcc", ...), with a Renamed warning: a former name, declared as an alias
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import pkgutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, TypeVar

from .errors import Renamed, UsageError

if TYPE_CHECKING:
    from .approximate import Approximation
    from .approximate.recipe import Recipe
    from .cost import Protocol
    from .rewrite import Pass

T = TypeVar("T")

PASSES = "mpcc.passes"
COSTMODELS = "mpcc.costmodels"


@cache
def approximations() -> Mapping[str, Approximation]:
    """All approximations by name."""
    from .approximate import Approximation

    return collect(plugin_modules(PASSES), Approximation, "approximation")


@cache
def passes() -> Mapping[str, Pass]:
    """All passes (fusions, folds) by name."""
    from .rewrite import Pass

    return collect(plugin_modules(PASSES), Pass, "pass")


@cache
def pass_order(graph: str) -> tuple[Pass, ...]:
    """The exact passes of a graph level ("nn" or "mpc") in the order that they run."""
    from .rewrite import ordered

    return tuple(ordered(one for one in passes().values() if one.graph == graph and one.level == "exact"))


@cache
def protocols() -> Mapping[str, Protocol]:
    """All protocols by name."""
    from .cost import Protocol

    return collect(plugin_modules(COSTMODELS), Protocol, "protocol")


@cache
def recipes() -> Mapping[str, Recipe]:
    """All recipes by name, without their aliases."""
    from .approximate.recipe import Recipe

    return collect(plugin_modules(PASSES), Recipe, "recipe")


def approximation(name: str) -> Approximation:
    """The approximation of that name, or a UsageError that lists what there is."""
    return lookup(approximations(), name, "approximation")


def pass_(name: str) -> Pass:
    """The pass of that name, or a UsageError that lists what there is."""
    return lookup(passes(), name, "pass")


def recipe(name: str) -> Recipe:
    """The recipe of that name or alias, or a UsageError that lists what there is."""
    aliases = {alias: one for one in recipes().values() for alias in one.aliases}
    return aliases[name] if name in aliases else lookup(recipes(), name, "recipe")


def protocol(name: str) -> Protocol:
    """The protocol of that name or of that former name, or a UsageError that lists what there is."""
    known = protocols()
    renamed = {} if name in known else {alias: one for one in known.values() for alias in one.aliases}
    if name in renamed:
        _say_renamed("protocol", name, renamed[name].name)
        return renamed[name]
    return lookup(known, name, "protocol")


@cache
def _say_renamed(word: str, former: str, name: str) -> None:
    """Once a process."""
    warnings.warn(f"the {word} {former!r} is now called {name!r}; the former name will be removed", Renamed, stacklevel=4)


@cache
def plugin_modules(package: str) -> tuple[ModuleType, ...]:
    """The modules of a plug-in package, then those that installed packages offer under an entry point of that name."""
    return tuple(dict.fromkeys([*_packaged(package), *_offered(package)]))


def _packaged(package: str) -> Iterator[ModuleType]:
    for entry in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not entry.ispkg and not entry.name.rpartition(".")[2].startswith("_"):
            yield importlib.import_module(entry.name)


def _offered(group: str) -> Iterator[ModuleType]:
    for point in sorted(importlib.metadata.entry_points(group=group), key=lambda point: point.value):
        try:
            module = importlib.import_module(point.module)
        except ImportError as error:
            raise UsageError(
                f"the plug-in {point.value!r} (entry point {point.name!r}) cannot be imported: {error}",
                where=group,
                hint="update or uninstall the package that offers it",
            ) from error
        yield module


def collect(modules: Iterable[ModuleType], kind: type[T], word: str) -> Mapping[str, T]:
    """The instances of `kind` among the modules' constants, by name, sorted. Two of one name are a UsageError.

    One constant that several modules bind (one imports it from another) is one plug-in.
    """
    found: dict[str, T] = {}
    home: dict[str, str] = {}
    for module in modules:
        for value in vars(module).values():
            if not isinstance(value, kind):
                continue
            name: str = value.name  # type: ignore[attr-defined]
            if found.setdefault(name, value) is not value:
                raise UsageError(
                    f"two plug-ins are called {name!r}: one in {home[name]}, one in {module.__name__}",
                    hint=f"give one {word} another name",
                )
            home.setdefault(name, module.__name__)
    return MappingProxyType(dict(sorted(found.items())))


def lookup(known: Mapping[str, T], name: str, word: str) -> T:
    """`known[name]`, or a UsageError with the nearest name and the list of all."""
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    suggestion = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(
        f"there is no {word} called {name!r}",
        hint=f"{suggestion}known: {', '.join(known) or 'none'}",
    )
