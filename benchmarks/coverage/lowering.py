"""Whether a captured graph lowers to the secure engine: the hook that the engine fills."""

from __future__ import annotations

from torch import fx


def lowers(graph: fx.GraphModule) -> str | None:
    """None if `graph` lowers to the secure engine, else why not; NotImplementedError until there is an engine."""
    raise NotImplementedError
