"""What a site, an approximation and a plan are; how a plan is expanded into an mpc-level graph."""

from mpcc.rewrite.passes import LEVELS, Level

from .approximation import Approximation, Domain, Options
from .plan import Choice, Part, Plan, Split
from .site import Range, Site, SiteStatistics

__all__ = [
    "Approximation",
    "Choice",
    "Domain",
    "LEVELS",
    "Level",
    "Options",
    "Part",
    "Plan",
    "Range",
    "Site",
    "SiteStatistics",
    "Split",
]
