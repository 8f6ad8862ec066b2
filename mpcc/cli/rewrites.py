"""What `mpcc optimize --verbose` prints about rewrites: in which layers each pass fired, and why it did not fire elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from mpcc.rewrite.step import Step


@dataclass
class Rewrites:
    """An observer of the pipeline. `fired`: pass -> layers. `refused`: pass -> reason -> layers. Dicts keep the order."""

    fired: dict[str, dict[str, None]] = field(default_factory=dict)
    refused: dict[str, dict[str, dict[str, None]]] = field(default_factory=dict)

    def __call__(self, step: Step) -> None:
        if step.layers:
            self.fired.setdefault(step.name, {}).update(dict.fromkeys(step.layers))
        for one in step.refusals:
            self.refused.setdefault(step.name, {}).setdefault(one.reason, {})[one.layer] = None

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "fired": {name: list(layers) for name, layers in self.fired.items()},
            "refused": {n: {why: list(layers) for why, layers in rows.items()} for n, rows in self.refused.items()},
        }

    def table(self) -> Table:
        """One row per pass that fired, and one per reason for which a pass did not fire."""
        from rich.table import Table

        table = Table(title="Rewrites: where each fired, and why it did not fire elsewhere", title_justify="left")
        for column in ("pass", "layers", "why not"):
            table.add_column(column, overflow="fold")
        for name in dict.fromkeys([*self.fired, *self.refused]):
            if name in self.fired:
                table.add_row(name, ", ".join(self.fired[name]), "")
            for why, layers in self.refused.get(name, {}).items():
                table.add_row(name, ", ".join(layers), why)
        return table
