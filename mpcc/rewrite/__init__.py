"""What a site, an approximation, a plan and a pass are; expansion of a plan into an mpc-level graph."""

from .approximation import LEVELS, Approximation, Domain, Level, Options
from .passes import Pass
from .plan import Choice, Part, Plan, Split
from .site import Range, Site, SiteStatistics

__all__ = [
    "LEVELS",
    "Approximation",
    "Choice",
    "Domain",
    "Level",
    "Options",
    "Part",
    "Pass",
    "Plan",
    "Range",
    "Site",
    "SiteStatistics",
    "Split",
]
