"""The options of a choice, checked before anything is computed with them: a plan may have been written by anybody.

An approximation says with the types of its function's keywords what its options are (`chain: Stages`, `joined: bool`); what
else it records of calibration (`low`, `high`, `margin`) are numbers and flags.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from mpcc.errors import PlanError
from mpcc.ir.kinds import shown

from .approximation import Approximation, Domain, Options

LARGEST = 2.0**64
"""In magnitude: a ring of 64 bits holds no larger number."""
RECORDED = bool | float
"""What an approximation notes beside the options of its function."""
MOST = 64
"""Entries of a list (the coefficients that an opcode takes), and steps, squarings or octaves of 64 bits."""


def check_options(approximation: Approximation, options: Options, site: str) -> None:
    """PlanError for an option that the approximation does not have, or whose value is of another kind."""
    for complaint in _complaints(approximation, options):
        raise PlanError(f"the options of {approximation.name} do not fit: {complaint}", where=f"site {site}")


def domain_of(approximation: Approximation, options: Options, site: str) -> Domain:
    """The domain under checked options. PlanError where they leave out what it depends on."""
    check_options(approximation, options, site)
    try:
        return approximation.domain(options)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        what = f"the options of {approximation.name} do not fit: {shown(str(error))}"
        raise PlanError(what, where=f"site {site}") from error


def _complaints(approximation: Approximation, options: Options) -> Iterator[str]:
    parameters = inspect.signature(approximation.function).parameters
    free = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    kinds = _kinds(approximation)
    for name, value in options.items():
        if name == "mask" or (name not in parameters and not free):
            yield f"there is no option {shown(name)}"
        elif not fits(value, kinds[name] if name in parameters else RECORDED):
            yield f"{name} = {shown(value)}"


def _kinds(approximation: Approximation) -> Mapping[str, Any]:
    """Parameter -> its type; Any where it says none that can be found out."""
    try:
        found = get_type_hints(approximation.function)
    except (NameError, TypeError):
        found = {}
    return {name: found.get(name, Any) for name in inspect.signature(approximation.function).parameters}


def fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a kind: bool, int, float, str, None, sequences of such, either of two."""
    if get_origin(kind) in (Union, types.UnionType):
        return any(fits(value, one) for one in get_args(kind))
    if kind is bool or isinstance(value, bool):
        return isinstance(value, bool) and kind in (bool, Any)
    if kind is int:
        return isinstance(value, int) and abs(value) <= MOST
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value) and abs(value) < LARGEST
    if kind is str or kind is type(None):
        return isinstance(value, kind)
    if inspect.isclass(get_origin(kind)) and issubclass(get_origin(kind), Sequence):
        return _is_list(value) and all(map(fits, value, _kinds_of_entries(kind, len(value))))
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) <= MOST


def _kinds_of_entries(kind: Any, count: int) -> Sequence[Any]:
    inner = [one for one in get_args(kind) if one is not ...]
    return inner if len(inner) == count and len(inner) > 1 else [inner[0] if inner else Any] * count
