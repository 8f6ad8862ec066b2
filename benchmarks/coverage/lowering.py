"""Whether a captured graph lowers to the secure engine: with synthetic calibration, at the level `bounded`."""

from __future__ import annotations

from torch import fx

from mpcc import pipeline
from mpcc.errors import MpccError


def lowers(graph: fx.GraphModule) -> str | None:
    """None if `graph` lowers to the secure engine, else why not."""
    try:
        pipeline.compile(graph)
    except MpccError as error:
        return str(error)
    except Exception as error:
        return f"a bug: {type(error).__name__}: {error}"
    return None
