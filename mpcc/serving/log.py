"""What a role of the service logs: one JSON object per line on stderr, with an event and plain fields, never a share."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime

Value = str | int | float | bool | None


class Log:
    """Lines of one role. Nothing but scalars can be logged, so no share ever is."""

    def __init__(self, role: str, replica: int = 0) -> None:
        self.common: dict[str, Value] = {"role": role, "replica": replica}
        self._lock = threading.Lock()

    def __call__(self, event: str, **fields: Value) -> None:
        """Write a line."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **self.common, "event": event, **fields}
        text = json.dumps(line)
        with self._lock:
            try:
                print(text, file=sys.stderr, flush=True)
            except (OSError, ValueError):  # where it goes is closed: the service goes on
                pass
