"""Graphs of a program as plain JSON rows, one per node. Reading checks every field; nothing is looked up by a Python name.

    {"name": "input_0",       "op": "input",       "args": ["image", 65536.0, [1, 3, 32, 32]]}
    {"name": "weight_0",      "op": "weight",      "args": ["head.weight", 8192.0, [10, 256]]}
    {"name": "weight_1",      "op": "public_weight", "args": ["fc1.weight", 8192.0, [256, 64]]}       one that everybody has
    {"name": "correlation_0", "op": "correlation", "args": ["mask"]}                  a share of this dealer value
    {"name": "truncated",     "op": "truncated",   "args": ["open_", 13, "correlation_1", "correlation_2", 48],
     "origin": {"layer": "blocks.0", "site": "blocks.0.gelu", "primitive": "mul"}, "end": ["blocks.0.gelu", 16384.0]}

`op` is a name of `mpcc.ir.opcodes`. What follows from the rest (shapes, phases, rounds) is not in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import fx

from mpcc.errors import BundleError
from mpcc.ir import kinds
from mpcc.ir.info import KEY, End, Info, Input, Origin, Weight, info_of, input_of, weight_of
from mpcc.ir.nn import shape_of
from mpcc.ir.opcodes import BY_FUNCTION, Opcode, value_of

Row = Mapping[str, Any]
GIVEN = (kinds.text, kinds.scale, kinds.shape)
CORRELATION = Opcode("correlation", Info, (kinds.node,))
PLACEHOLDERS = {
    "input": Opcode("input", Input, GIVEN),
    "weight": Opcode("weight", Weight, GIVEN),
    "public_weight": Opcode("public_weight", partial(Weight, public=True), GIVEN),
    "correlation": CORRELATION,
}
"""Rows of an online graph that compute nothing. A correlation's argument is a node of the dealer graph."""
END = kinds.fields(kinds.text, kinds.scale)
MOST_NODES = 1 << 20
REQUIRED, KNOWN = {"name", "op", "args"}, {"name", "op", "args", "origin", "end"}
ORIGIN = {"layer", "site", "part", "primitive"}


def rows_of(graph: fx.Graph, dealt: Mapping[str, str]) -> list[Row]:
    """One row per node, in the order of the graph; the same graph gives the same rows. `dealt`: share -> dealer node."""
    return [_row(node, dealt) for node in graph.nodes if node.op != "output"]


def _row(node: fx.Node, dealt: Mapping[str, str]) -> Row:
    info = info_of(node)
    op, args = _placeholder(node, dealt) if node.op == "placeholder" else (BY_FUNCTION[node.target].name, node.args)  # type: ignore[index]
    row = {"name": node.name, "op": op, "args": _plain(args)}
    origin = {key: value for key, value in asdict(info.origin).items() if value}
    return row | ({"origin": origin} if origin else {}) | ({"end": [info.end.site, info.end.scale]} if info.end else {})


def _placeholder(node: fx.Node, dealt: Mapping[str, str]) -> tuple[str, Any]:
    if (given := input_of(node)) is not None:
        return "input", (given.name, given.scale, shape_of(node))
    if (weight := weight_of(node)) is not None:
        return "public_weight" if weight.public else "weight", (weight.constant, weight.scale, shape_of(node))
    return "correlation", (dealt[node.name],)


def _plain(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return value.name
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def graph_of(rows: Any, table: Mapping[str, Opcode], dealt: Mapping[str, fx.Node] | None = None) -> dict[str, fx.Node]:
    """The nodes of such rows by name, in a new graph without an output. BundleError, naming the node, for a damaged row.

    `dealt`: the dealer's nodes by name, for an online graph; None for a dealer graph, which has no placeholders.
    """
    reader = _Reader(table, {} if dealt is None else PLACEHOLDERS, dealt or {})
    for place, row in enumerate(kinds.entries(rows, MOST_NODES)):
        try:
            reader.read(row)
        except ValueError as error:
            named = isinstance(row, dict) and isinstance(row.get("name"), str)
            raise BundleError(str(error), where=f"node {kinds.shown(row['name'])}" if named else f"node {place}") from None
    return reader.nodes


class _Reader:
    """One graph, row by row."""

    def __init__(self, table: Mapping[str, Opcode], placeholders: Mapping[str, Opcode], dealt: Mapping[str, fx.Node]) -> None:
        self.known, self.dealt = {**table, **placeholders}, dealt
        self.graph = fx.Graph()
        self.nodes: dict[str, fx.Node] = {}

    def read(self, row: Any) -> None:
        """ValueError says what is wrong with the row."""
        if not isinstance(row, dict) or not REQUIRED <= set(row) <= KNOWN:
            found = kinds.shown(sorted(row) if isinstance(row, dict) else row)
            raise ValueError(f"a node has the keys args, name, op, and perhaps end and origin, not {found}")
        name, op = kinds.name(row["name"]), row["op"]
        if name in self.nodes:
            raise ValueError("the name is taken by an earlier node")
        opcode = self.known.get(op) if isinstance(op, str) else None
        if opcode is None:
            raise ValueError(f"unknown operation {kinds.shown(op)}")
        node, given = (self._placeholder if op in PLACEHOLDERS else self._call)(name, opcode, row["args"])
        if node.name != name:
            raise ValueError("the name is reserved")
        end = End(*END(row["end"], {})) if "end" in row else None
        node.meta[KEY] = Info(_origin(row.get("origin", {})), given, end=end)
        self.nodes[name] = node

    def _call(self, name: str, opcode: Opcode, args: Any) -> tuple[fx.Node, None]:
        node = self.graph.create_node("call_function", opcode.function, opcode.read(args, self.nodes), name=name)
        node.meta["val"] = value_of(opcode, node)
        return node, None

    def _placeholder(self, name: str, opcode: Opcode, args: Any) -> tuple[fx.Node, Input | Weight | None]:
        read = opcode.read(args, self.dealt)
        shape, given = (shape_of(read[0]), None) if opcode is CORRELATION else (read[2], opcode.function(*read[:2]))
        node = self.graph.create_node("placeholder", name, name=name)
        node.meta["val"] = torch.empty(shape, dtype=torch.int64, device="meta")
        return node, given


def _origin(value: Any) -> Origin:
    if not isinstance(value, dict) or not set(value) <= ORIGIN:
        raise ValueError(f"an origin has some of the keys layer, part, primitive, site, not {kinds.shown(value)}")
    return Origin(**{key: kinds.text(one) for key, one in value.items()})
