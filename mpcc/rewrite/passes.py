"""A pass: GraphModule in, torch's PassResult out, so that it also works inside torch's own PassManager."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassResult

from .edit import Changes, Refusal

Level = Literal["exact", "bounded", "structural"]
LEVELS: tuple[Level, ...] = ("exact", "bounded", "structural")


class Rewritten(PassResult):
    """A PassResult that also says where the pass fired, and why it did not fire elsewhere."""

    layers: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class Pass:
    """A rewrite of one graph level. `rewrite(graph_module)` edits in place and returns the names of the nodes it changed.

    `after` names the passes of the same level whose results it builds on; `mpcc.rewrite.order` finds its place by that.
    `level` is what it may change: `exact` keeps the function, and only exact passes run unasked.
    """

    name: str
    graph: Literal["nn", "mpc"]
    rewrite: Callable[[GraphModule], list[str]]
    source: str
    summary: str
    level: Level = "exact"
    after: tuple[str, ...] = ()

    def __call__(self, graph_module: GraphModule) -> Rewritten:
        changed = self.rewrite(graph_module)
        if changed:
            graph_module.graph.eliminate_dead_code()
            graph_module.graph.lint()
            graph_module.recompile()
        result = Rewritten(graph_module, bool(changed))
        if isinstance(changed, Changes):
            result.layers, result.refusals = changed.layers, changed.refusals
        return result
