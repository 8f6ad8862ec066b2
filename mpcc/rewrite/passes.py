"""A pass: GraphModule in, torch's PassResult out, so that it also works inside torch's own PassManager."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassResult

Level = Literal["exact", "bounded", "structural"]
LEVELS: tuple[Level, ...] = ("exact", "bounded", "structural")

@dataclass(frozen=True)
class Pass:
    """A rewrite of one graph level. `rewrite(graph_module)` edits in place and returns the nodes it changed (their names).

    `level` is what it may change: `exact` keeps the function.
    """

    name: str
    graph: Literal["nn", "mpc"]
    rewrite: Callable[[GraphModule], list[str]]
    source: str
    summary: str
    level: Level = "exact"

    def __call__(self, graph_module: GraphModule) -> PassResult:
        changed = self.rewrite(graph_module)
        if changed:
            graph_module.graph.eliminate_dead_code()
            graph_module.graph.lint()
            graph_module.recompile()
        return PassResult(graph_module, bool(changed))
