"""What `mpcc optimize --verbose` shows: which rewrite fired in which layers, and why it did not elsewhere."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

LOGGER = "mpcc.rewrite"
REFUSED = re.compile(r"not at (?:node \S+ in layer )?(.*?): (.*)")


@dataclass
class Rewrites:
    """Pass -> the layers where it fired; pass -> reason -> the layers where it did not for that reason."""

    fired: dict[str, dict[str, None]] = field(default_factory=dict)
    refused: dict[str, dict[str, dict[str, None]]] = field(default_factory=dict)

    def note(self, message: str, applied: bool) -> None:
        """Take down one message of the rewriter."""
        name, _, rest = message.partition(": ")
        if applied:
            self.fired.setdefault(name, {}).update(dict.fromkeys(rest.split(", ")))
        elif found := REFUSED.fullmatch(rest):
            # names of single nodes say nothing to the user, and would make every reason another one
            self.refused.setdefault(name, {}).setdefault(found[2], {})[found[1]] = None

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "fired": {name: list(layers) for name, layers in self.fired.items()},
            "refused": {n: {why: list(layers) for why, layers in rows.items()} for n, rows in self.refused.items()},
        }

    def table(self) -> Table:
        """A row for each pass that fired, and one for each reason why one did not."""
        from rich.table import Table

        table = Table(title="Rewrites: where each fired, and why not elsewhere", title_justify="left")
        for column in ("pass", "layers", "why not"):
            table.add_column(column, overflow="fold")
        for name in dict.fromkeys([*self.fired, *self.refused]):
            if name in self.fired:
                table.add_row(name, ", ".join(self.fired[name]), "")
            for why, layers in self.refused.get(name, {}).items():
                table.add_row(name, ", ".join(layers), why)
        return table


@contextmanager
def listening() -> Iterator[Rewrites]:
    """Collect what the rewriter says meanwhile."""
    found, logger = Rewrites(), logging.getLogger(LOGGER)
    handler = _Handler(found)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _Handler(logging.Handler):
    def __init__(self, found: Rewrites) -> None:
        super().__init__(logging.DEBUG)
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        self.found.note(record.getMessage(), record.levelno >= logging.INFO)
