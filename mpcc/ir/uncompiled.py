"""A graph that is run node by node and never becomes Python source, so that nothing a file says can run as code.

torch.fx writes the names of nodes into source text and executes it whenever a GraphModule is made, copied or unpickled.
Names of a program may come from a file that another party wrote; so a program holds its graphs in this instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx


@dataclass(frozen=True)
class Uncompiled:
    """An fx.Graph, and nothing that could be called."""

    graph: fx.Graph
