"""Measured losses, kept in the user's cache under a hash of all that they depend on, so that a second search is quick.

    <cache>/mpcc/sensitivity/<hash of graph, weights, inputs, metric>.json : {hash of site and function: loss}
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from mpcc import files
from mpcc.approximate import Approximation
from mpcc.ir.nn import attribute

FORMAT = "mpcc sensitivity 1"


def folder() -> Path:
    """Where they are kept."""
    return files.cache_folder() / "sensitivity"


def key_of(graph_module: fx.GraphModule, columns: Sequence[Tensor], metric: str) -> str:
    """Hash of a graph with its weights, of the inputs, and of how loss is measured."""
    found = hashlib.sha256(FORMAT.encode())
    for node in graph_module.graph.nodes:
        found.update(repr((node.op, str(node.target), node.args, node.kwargs, node.meta.get("site"))).encode())
        if node.op == "get_attr":
            _add(found, attribute(graph_module, str(node.target)))
    for column in columns:
        _add(found, column)
    found.update(metric.encode())
    return found.hexdigest()


def _add(found: Any, value: Tensor) -> None:
    found.update(repr((tuple(value.shape), str(value.dtype))).encode())
    found.update(value.detach().contiguous().cpu().numpy().data)


def entry_of(site: str, content: Any, approximations: Sequence[Approximation]) -> str:
    """Hash of a site and of what stands there, with the text of the approximations that it names."""
    found = hashlib.sha256(json.dumps([site, content], sort_keys=True).encode())
    for approximation in approximations:
        found.update(_text(approximation).encode())
    return found.hexdigest()


def _text(approximation: Approximation) -> str:
    try:
        return inspect.getsource(inspect.getmodule(approximation.function) or approximation.function)
    except (OSError, TypeError):
        return approximation.name


def read(key: str) -> dict[str, float]:
    """What was kept; nothing where there is nothing, or nothing that can be read."""
    try:
        found = json.loads((folder() / f"{key}.json").read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in found.items() if not math.isnan(float(value))}
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError):
        return {}


def write(key: str, losses: Mapping[str, float]) -> None:
    """Keep them, whole or not at all. Not being able to write the cache is not an error."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        files.write(folder() / f"{key}.json", json.dumps(dict(losses), sort_keys=True))
    except OSError:
        return
