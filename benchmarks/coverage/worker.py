"""A process that measures one model after another, and can be stopped when one takes too long."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A new process now and then, for models leave memory behind.
_MODELS_A_PROCESS = 20


class Worker:
    """Starts `coverage.measure`, sends names, reads rows; a crash or a model over its limit costs a row and a restart."""

    def __init__(self, limit_seconds: float, environment: Mapping[str, str]) -> None:
        self.limit_seconds = limit_seconds
        self.environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile("w+")
        self._left = 0

    def measure(self, library: str, name: str, lower: bool) -> dict[str, Any]:
        """The row of one model; with `lower` it also says whether the graph lowers to the secure engine."""
        row: dict[str, Any] = {"library": library, "model": name, "status": "failed"}
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{library} {name} {'lower' if lower else 'capture'}\n".encode())
        while True:
            ready, _, _ = select.select([process.stdout], [], [], self.limit_seconds)
            line = process.stdout.readline() if ready else b""
            if line.startswith(b"{"):
                row = json.loads(line)
            elif line.startswith(b"done"):
                return row
            elif not line:
                self.stop()
                late = f"took more than {self.limit_seconds:.0f} seconds"
                why = late if not ready else self._last_error() or "it ended"
                return row | {"lowers" if row["status"] == "captured" else "reason": why}

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._left == 0:
            self.stop()
        if self._process is None or self._process.poll() is not None:
            self._errors.truncate(0)
            self._left = _MODELS_A_PROCESS
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.coverage.measure"],
                cwd=Path(__file__).parents[2],
                env=dict(self.environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,  # a line read ahead would be one that select does not see
            )
        self._left -= 1
        return self._process

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""
