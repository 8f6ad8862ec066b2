"""The parts of a .pt2 archive that hold no code: JSON of bounded size, and tensors as raw bytes.

    <root>/models/model.json                          the graph and its signature
    <root>/data/weights/model_weights_config.json     {"config": {name: {path_name, is_param, use_pickle, tensor_meta}}}
    <root>/data/weights/weight_0                      the bytes of one or several of them
    <root>/data/constants/...                         the same for constants

Pickled weights, constants and objects are refused; sample inputs, compiled libraries and extra files are not opened.
Source of the layout: pytorch: torch/export/pt2_archive, torch/_export/serde/schema.py (schema version 8).
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import torch

from mpcc.errors import ModelFileError

from ..limits import HINT, Limits

# Bytes of JSON: a ViT-L's graph has 3 MB, with the stack trace of every node.
MOST_JSON = 1 << 26
SAVE_AGAIN = "Write it with torch.export.save(torch.export.export(model, inputs), path) of torch 2.9 or later."

# ScalarType of the schema.
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip


class Archive:
    """An open archive of one program."""

    def __init__(self, path: Path, limits: Limits) -> None:
        if not path.is_file():
            raise ModelFileError("this is not a regular file" if path.exists() else "there is no such file")
        self.limits = limits
        self.weight_bytes = 0
        self._size = path.stat().st_size
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ModelFileError(f"mpcc cannot read it as a .pt2 file: {error}", hint=SAVE_AGAIN) from None
        self._members = {info.filename.partition("/")[2]: info for info in self._zip.infolist()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def program(self) -> dict[str, Any]:
        """The JSON of the one program inside."""
        names = [name for name in self._members if name.startswith("models/") and name.endswith(".json")]
        if names != ["models/model.json"]:
            raise ModelFileError(f"mpcc cannot read it: it holds {len(names)} programs of this format", hint=SAVE_AGAIN)
        return self._json(names[0])

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights and constants by name; parameters as such."""
        found: dict[str, torch.Tensor] = {}
        for folder in ("weights", "constants"):
            entries = self._json(f"data/{folder}/model_{folder}_config.json").get("config")
            for name, entry in entries.items() if isinstance(entries, dict) else ():
                found[str(name)] = self._tensor(str(name), f"data/{folder}/", entry)
        return found

    def _json(self, name: str) -> dict[str, Any]:
        content = self._bytes(name, MOST_JSON)
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{name} is not readable JSON: {type(error).__name__}") from None
        if not isinstance(found, dict):
            raise ModelFileError(f"{name} does not hold an object")
        return found

    def _bytes(self, name: str, most: int) -> bytes:
        info = self._members.get(name)
        if info is None:
            raise ModelFileError(f"mpcc cannot read it: it has no {name}", hint=SAVE_AGAIN)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ModelFileError(f"{name} is compressed or encrypted, which torch never does", hint=SAVE_AGAIN)
        if info.file_size > min(most, self._size):
            raise ModelFileError(f"{name} has {info.file_size:,} bytes, more than {min(most, self._size):,}", hint=HINT)
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError) as error:
            raise ModelFileError(f"{name} is damaged: {error}") from None

    def _tensor(self, name: str, folder: str, entry: Any) -> torch.Tensor:
        try:
            path, pickled, meta = str(entry["path_name"]), entry["use_pickle"], entry["tensor_meta"]
        except (TypeError, KeyError):
            _broken(name)
        if pickled or not isinstance(meta, dict):
            raise ModelFileError(
                f"{name!r} is stored as a pickle, which can run any code when it is read",
                hint="Export the model with ordinary tensors as weights, without scripted or custom objects.",
            )
        dtype, shape, strides, offset = layout(name, meta)
        content = self._bytes(folder + path, self.limits.weights)
        self._count(math.prod(shape) * dtype.itemsize)
        flat = torch.from_numpy(np.frombuffer(content, np.uint8).copy()) if content else torch.empty(0, dtype=torch.uint8)
        try:
            tensor = flat.view(dtype).as_strided(shape, strides, offset).clone(memory_format=torch.contiguous_format)
        except RuntimeError:
            _broken(name)
        trains = entry.get("is_param") is True and dtype.is_floating_point
        return torch.nn.Parameter(tensor) if trains else tensor

    def _count(self, size: int) -> None:
        """Weights that share bytes of the file are read more than once, and broadcast ones are spelt out."""
        self.weight_bytes += size
        if self.weight_bytes > min(self.limits.weights, 4 * self._size + self.limits.scratch):
            raise ModelFileError(f"its weights need more than {self.weight_bytes:,} bytes", hint=HINT)


def layout(name: str, meta: dict[str, Any]) -> tuple[torch.dtype, list[int], list[int], int]:
    """Type, shape, strides and offset of a TensorMeta whose numbers are all written out."""
    try:
        dtype = DTYPES[meta["dtype"]]
        shape, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
        offset = meta["storage_offset"]["as_int"]
    except (KeyError, TypeError):
        _broken(name)
    numbers = [*shape, *strides, offset]
    if len(shape) != len(strides) or any(type(item) is not int or not 0 <= item < 1 << 48 for item in numbers):
        _broken(name)
    return dtype, shape, strides, offset


def _broken(name: str) -> NoReturn:
    raise ModelFileError(f"the description of the tensor {name!r} is broken")
