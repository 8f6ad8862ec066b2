"""Checkpoints of a training: one safetensors file, tensors by name, the rest as JSON in its header. Written atomically.

Random generators need no state here: each is seeded from the seed, the stage and the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mpcc.errors import UsageError
from mpcc.files import replacing

FORMAT = "mpcc checkpoint 1"


@dataclass(frozen=True)
class Snapshot:
    """`state` is JSON; `tensors` are named `group/name`."""

    state: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors of a group, by the rest of their names."""
        return {k[len(name) + 1 :]: v for k, v in self.tensors.items() if k.startswith(f"{name}/")}


@dataclass(frozen=True)
class Checkpoint:
    """A file (none: no checkpoints) and what it belongs to: `identity` stands for the model, the data and every setting that
    changes the result."""

    path: Path | None
    identity: str

    def write(self, state: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Replace the file."""
        if self.path is None:
            return
        tensors = {f"{g}/{n}": t.detach().contiguous().clone() for g, entries in groups.items() for n, t in entries.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path, private=True) as part:
            save_file(tensors, part, {"format": FORMAT, "identity": self.identity, "state": json.dumps(dict(state))})

    def read(self) -> Snapshot | None:
        """The last checkpoint, None where there is none. UsageError if it belongs to another training."""
        if self.path is None or not self.path.is_file():
            return None
        hint = f"delete it to start over: {self.path}"
        try:
            with safe_open(self.path, framework="pt") as opened:
                header = opened.metadata() or {}
                if header.get("format") != FORMAT:
                    raise UsageError("not a checkpoint of this version of mpcc", where=self.path.name, hint=hint)
                if header.get("identity") != self.identity:
                    raise UsageError(
                        "the checkpoint belongs to another model, other data or other settings", where=self.path.name, hint=hint
                    )
                return Snapshot(json.loads(header["state"]), {name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
        except (SafetensorError, json.JSONDecodeError, KeyError) as error:
            raise UsageError(f"not a readable checkpoint ({error})", where=self.path.name, hint=hint) from None

    def remove(self) -> None:
        """Delete the file, once the result of the training is saved."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
