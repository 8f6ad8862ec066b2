"""The cost room: protocols, networks, budgets, estimates. The prices themselves live in `mpcc.costmodels`."""

from .budget import Budget
from .counts import OpCounts, Regression, SiteCount, table_of_regressions
from .estimate import Estimate, PhaseCost, SiteCost, estimate_graph, estimate_of, estimate_uses
from .network import LAN, NETWORKS, WAN, Network
from .price import FREE, Amount, Call, Price, Shape, Work, broadcast, ceil_log2, elements, larger
from .protocol import Compute, Formula, Protocol
from .symbolic import Formulas, symbolic
from .uses import PUBLIC, SECRET, WEIGHTS, Use, uses

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
    "symbolic",
    "table_of_regressions",
    "uses",
]
