"""The owner's key, and the hashes that it makes: what leaves the owner must not let anybody confirm a guess of the weights.

A plain hash of weights.safetensors would: whoever suspects that a published checkpoint was used makes the same bundle of it
and compares. With a key that never leaves the owner, the hashes say nothing to others, and still tell versions apart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mpcc import files
from mpcc.errors import BundleError

from .folder import OWNER, PUBLIC_FOLDER

if TYPE_CHECKING:
    from mpcc.approximate import Plan

KEY_BYTES = 32
AGAIN = "Create the bundle again with `mpcc optimize`, or copy it again."


def new_key() -> bytes:
    """A key of 256 bits."""
    return secrets.token_bytes(KEY_BYTES)


def write_key(key: bytes, folder: Path) -> None:
    """Keep the key in a bundle, readable by its owner alone."""
    files.write(folder / OWNER, json.dumps({"key": key.hex()}) + "\n", private=True)


def read_key(folder: Path) -> bytes:
    """The key of a bundle. BundleError if it is missing or damaged."""
    path = folder / OWNER
    try:
        key = bytes.fromhex(json.loads(path.read_text(encoding="utf-8"))["key"])
        if len(key) != KEY_BYTES:
            raise ValueError(f"{len(key)} bytes, not {KEY_BYTES}")
    except FileNotFoundError:
        hint = f"The server needs the whole bundle; its part {PUBLIC_FOLDER}/ is for the client and the dealer."
        raise BundleError(f"{OWNER} is missing", where=str(folder), hint=hint) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{OWNER} is damaged: {error}", where=str(folder), hint=AGAIN) from None
    return key


def keyed(path: Path, key: bytes) -> str:
    """HMAC-SHA256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hmac.new(key, hashlib.file_digest(file, "sha256").digest(), "sha256").hexdigest()


def version_of(plan: Plan, constants: Mapping[str, Tensor], key: bytes) -> str:
    """The version of a model: HMAC-SHA256 of its plan and weights. The parties compare it before they start."""
    made = hmac.new(key, plan.to_json().encode(), "sha256")
    for name in sorted(constants):
        made.update(name.encode())
        made.update(constants[name].detach().contiguous().float().numpy().tobytes())
    return made.hexdigest()
