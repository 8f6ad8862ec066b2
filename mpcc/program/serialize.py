"""Graphs of a program as plain JSON values: a closed table of operations, no code, no pickle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from mpcc.errors import BundleError
from mpcc.ir import dealer, mpc, online

META = ("kind", "scale", "input", "constant", "boolean", "owned", "phase", "level", "layer", "site", "part", "primitive", "ends")


def _table() -> dict[str, Callable[..., Any]]:
    functions = {
        f"{module.__name__.rsplit('.', 1)[1]}.{name}": value
        for module in (online, dealer)
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    }
    return functions | {str(view): view for view in mpc.VIEWS - {mpc.gather, mpc.apply_mask, mpc.scale_rows}}


TARGETS = _table()
NAMES = {target: name for name, target in TARGETS.items()}


def rows_of(graph: fx.Graph) -> list[dict[str, Any]]:
    """One row per node, in the order of the graph; the same graph gives the same rows."""
    rows = []
    for node in graph.nodes:
        row: dict[str, Any] = {"name": node.name, "op": node.op}
        if node.op == "call_function":
            row["target"] = NAMES[node.target]
        row["args"] = _write(node.args)
        if node.kwargs:
            row["kwargs"] = _write(node.kwargs)
        if node.op != "output":
            row["shape"] = list(node.meta["val"].shape)
        row["meta"] = {k: node.meta[k] for k in META if node.meta.get(k) is not None}
        rows.append(row)
    return rows


def _write(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, (tuple, list)):
        return [_write(v) for v in value]
    if isinstance(value, dict):
        return {k: _write(v) for k, v in value.items()}
    return value


def graph_of(rows: list[dict[str, Any]]) -> fx.Graph:
    """The graph of such rows. BundleError for an unknown operation; KeyError, TypeError, ValueError for damaged rows."""
    graph = fx.Graph()
    env: dict[str, fx.Node] = {}

    def value(v: Any) -> Any:
        if isinstance(v, dict):
            return env[v["node"]]
        return tuple(value(x) for x in v) if isinstance(v, list) else v

    for row in rows:
        args = value(row["args"])
        kwargs = {k: value(v) for k, v in row.get("kwargs", {}).items()}
        target: Any = row["name"]
        if row["op"] == "call_function":
            target = TARGETS.get(row["target"])
            if target is None:
                raise BundleError(f"unknown operation {row['target']!r}")
        elif row["op"] not in ("placeholder", "output"):
            raise BundleError(f"unknown kind of node {row['op']!r}")
        if row["op"] == "output":
            target = "output"
        node = graph.create_node(row["op"], target, args, kwargs, name=row["name"])
        if row["op"] != "output":
            node.meta["val"] = torch.empty(row["shape"], dtype=torch.int64, device="meta")
        node.meta.update(row["meta"])
        env[row["name"]] = node
    return graph
