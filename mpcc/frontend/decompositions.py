"""PyTorch's own decompositions, for the operators that have no rule here.

A rule of one's own stands wherever it gives a better program; everything else is a composition that PyTorch has written
down already, and is read after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch.export import ExportedProgram

from .tracing import quiet

# Decomposed, these would be read wrongly: what they compute depends on values that are secret, or on chance.
_NEVER = (torch.Tag.nondeterministic_seeded, torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


def decompositions(targets: Iterable[Any]) -> dict[Any, Callable[..., Any]]:
    """The decomposition of each of `targets` that has one."""
    table, further = _core(), torch._decomp.decomposition_table
    found = {}
    for target in targets:
        if not isinstance(target, torch._ops.OpOverload) or any(tag in target.tags for tag in _NEVER):
            continue
        if target in table:
            found[target] = table[target]
        elif torch._C._dispatch_has_kernel_for_dispatch_key(_name(target), "CompositeImplicitAutograd"):
            found[target] = target.decompose
        elif target in further:
            found[target] = further[target]
    return found


@cache
def _core() -> Any:
    """The table down to core ATen, which takes torch half a second to make."""
    return torch.export.default_decompositions()


def _name(target: torch._ops.OpOverload) -> str:
    """aten::repeat_interleave.self_int"""
    schema = target._schema
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else str(schema.name)


def rewritten(program: ExportedProgram, table: dict[Any, Callable[..., Any]]) -> ExportedProgram:
    """`program` without in-place operators and with the operators of `table` decomposed, everything else left whole."""
    with quiet():
        made: ExportedProgram = program.run_decompositions(table)
    return made
