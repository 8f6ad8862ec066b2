"""A plan: the choice for every site. Plain JSON, readable and editable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import PlanError

VERSION = 1


@dataclass(frozen=True)
class Choice:
    """The approximation chosen at a site and the options of the member that was chosen."""

    approximation: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Site name -> choice, in the order of the graph, with what it was made for (`notes`)."""

    choices: Mapping[str, Choice]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Stable text: the same plan gives the same bytes."""
        sites = {name: {"approximation": c.approximation, "options": dict(c.options)} for name, c in self.choices.items()}
        return json.dumps({"version": VERSION, "notes": dict(self.notes), "sites": sites}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str, *, where: str = "plan") -> Plan:
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise PlanError(f"not JSON: {error.msg} at line {error.lineno}", where=where) from None
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise PlanError(f"not a plan of version {VERSION}", where=where, hint="Make one with `mpcc optimize`.")
        sites = document.get("sites")
        if not isinstance(sites, dict):
            raise PlanError("`sites` must be an object of site name -> choice", where=where)
        choices = {}
        for name, entry in sites.items():
            if not isinstance(entry, dict) or not isinstance(entry.get("approximation"), str):
                raise PlanError(f"site {name}: needs an `approximation` (a name)", where=where)
            options = entry.get("options", {})
            if not isinstance(options, dict):
                raise PlanError(f"site {name}: `options` must be an object", where=where)
            choices[name] = Choice(entry["approximation"], options)
        return Plan(choices, document.get("notes", {}))
