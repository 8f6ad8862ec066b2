"""The cost room: protocols, networks, budgets, estimates. The prices themselves live in `mpcc.costmodels`.

What reads graphs needs torch, and is imported when it is asked for: a budget or a network is read in no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .budget import Budget
from .network import LAN, NETWORKS, WAN, Network
from .price import FREE, Amount, Call, Price, Shape, Work, broadcast, ceil_log2, elements, larger
from .protocol import Compute, Formula, Protocol

if TYPE_CHECKING:
    from .counts import OpCounts, Regression, SiteCount, markdown_of_changes, table_of_regressions
    from .estimate import Estimate, PhaseCost, SiteCost, estimate_graph, estimate_of, estimate_uses
    from .formulas import Formulas, symbolic
    from .use import PUBLIC, SECRET, WEIGHTS, Use, uses

__all__ = [
    "FREE",
    "LAN",
    "NETWORKS",
    "PUBLIC",
    "SECRET",
    "WAN",
    "WEIGHTS",
    "Amount",
    "Budget",
    "Call",
    "Compute",
    "Estimate",
    "Formula",
    "Formulas",
    "Network",
    "OpCounts",
    "PhaseCost",
    "Price",
    "Protocol",
    "Regression",
    "Shape",
    "SiteCost",
    "SiteCount",
    "Use",
    "Work",
    "broadcast",
    "ceil_log2",
    "elements",
    "estimate_graph",
    "estimate_of",
    "estimate_uses",
    "larger",
    "markdown_of_changes",
    "symbolic",
    "table_of_regressions",
    "uses",
]

_LATER = {
    "counts": ("OpCounts", "Regression", "SiteCount", "markdown_of_changes", "table_of_regressions"),
    "estimate": ("Estimate", "PhaseCost", "SiteCost", "estimate_graph", "estimate_of", "estimate_uses"),
    "formulas": ("Formulas", "symbolic"),
    "use": ("PUBLIC", "SECRET", "WEIGHTS", "Use", "uses"),
}


def __getattr__(name: str) -> Any:
    for home, names in _LATER.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
