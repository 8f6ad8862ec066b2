"""Verification: where errors come from, site by site; range analysis of a program before it runs."""

from .range_findings import Finding, findings
from .verification import SiteError, Verification

__all__ = [
    "Finding",
    "SiteError",
    "Verification",
    "findings",
]
