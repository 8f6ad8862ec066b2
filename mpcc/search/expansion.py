"""One site's expansion by itself, and the rounds that each primitive adds to it: what rough prices are made of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from mpcc.approximate import Approximation, Choice
from mpcc.approximate.expand import site_function
from mpcc.ir import mpc
from mpcc.ir.trace import Recorder

OPENS = {mpc.mul: 1, mpc.square: 1, mpc.polynomial: 1, mpc.curve: 1, mpc.matmul: 1, mpc.less: 2, mpc.select: 1}
"""Rounds that a primitive adds behind its operands."""


def expansion(node: fx.Node, choice: Choice, approximations: Mapping[str, Approximation]) -> fx.Graph:
    """The mpc-level graph of a choice at a site, with the site's operands as inputs."""
    graph = fx.Graph()
    recorder = Recorder(graph)

    def place(source: fx.Node) -> fx.Node:
        made = graph.placeholder(source.name)
        made.meta["val"] = torch.empty(source.meta["val"].shape, device="meta")
        return made

    inputs = {source: place(source) for source in node.all_input_nodes}
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: inputs[n])
    recorder.call(site_function(node, choice, approximations), *args, **kwargs)
    return graph
