"""Reading an ONNX file: the graph as light protobuf, and each weight read once, straight into its tensor.

    model = read("vit.onnx")            # or a ModelProto
    model.proto                         # no bulk weights inside: they are references (wire.py)
    model.tensor(model.proto.graph.initializer[0])     # torch.Tensor, own memory

Types: float16, bfloat16 and floats of 8 and 4 bits become float32 (a private program computes in fixed point, and torch
trains in float32); all integers, those of 4 and 2 bits too, become int64. float64 stays until it becomes a parameter, so that
constants fold exactly. A half-precision number that is the rounding of a constant of GELU (sqrt 2 and the like) is read as
that constant.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, numpy_helper

from mpcc.errors import ModelFileError

from .wire import strip

# What a payload's bytes are, for the types that mpcc reads.
STORED: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.BOOL: torch.bool,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.UINT32: torch.uint32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT64: torch.uint64,
}
# What weights are stored in that are dequantised in the model: bits of a number; those below 8 are packed into bytes.
NARROW: dict[int, int] = {
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.INT2: 2,
    TensorProto.UINT2: 2,
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.FLOAT8E4M3FN: 8,
    TensorProto.FLOAT8E4M3FNUZ: 8,
    TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8,
}
FLOATS_OF_FEW_BITS = {kind for kind in NARROW if "FLOAT" in TensorProto.DataType.Name(kind)}
HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
# Of the erf, tanh and sigmoid forms: a GELU with sqrt 2 rounded to 1.4141 would not be recognised as one.
GELU_CONSTANTS = (math.sqrt(2), math.sqrt(0.5), math.sqrt(2 / math.pi), 0.044715, 1.702)


@dataclass
class Model:
    """A model whose weights are still in its files."""

    proto: ModelProto
    name: str
    source: Path | bytes
    folder: Path | None

    def tensor(self, stored: TensorProto) -> torch.Tensor:
        """The tensor's values in their own memory, in one of the types of this file's first lines."""
        if stored.data_type not in STORED and stored.data_type not in NARROW:
            raise ModelFileError(
                f"the tensor {stored.name!r} has the type {type_name(stored.data_type)}, which mpcc does not read",
                where=self.name,
                hint="export the model in float32, without quantisation",
            )
        if not is_external(stored):
            return restore(self._inline(stored), stored.data_type)
        self._check_length(stored)
        content = np.empty(bytes_of(stored), np.uint8)
        if content.size:
            self._fill(stored, content)
        if stored.data_type in NARROW:
            whole = TensorProto(name=stored.name, data_type=stored.data_type, dims=stored.dims, raw_data=content.tobytes())
            return self._inline(whole)
        return widen(torch.from_numpy(content).view(STORED[stored.data_type]).reshape(tuple(stored.dims)))

    def size(self) -> int:
        """The bytes of all files that the weights are in, as far as there are such files."""
        if isinstance(self.source, bytes):
            return len(self.source)
        users = {_place(tensor)[0]: tensor.name for tensor in tensors_of(self.proto) if is_external(tensor)}
        paths = [self._external(location, name) for location, name in users.items() if location]
        return sum(path.stat().st_size for path in (self.source, *paths))

    def _inline(self, stored: TensorProto) -> torch.Tensor:
        try:
            array = np.array(numpy_helper.to_array(stored))
            if stored.data_type in HALF or stored.data_type in FLOATS_OF_FEW_BITS:
                array = array.astype(np.float32)
            elif stored.data_type in NARROW:
                array = array.astype(np.int64)
            return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        except (ValueError, TypeError, OverflowError) as error:
            raise ModelFileError(f"the tensor {stored.name!r} is broken: {error}", where=self.name) from error

    def _check_length(self, stored: TensorProto) -> None:
        """Before memory is asked for: whether as many bytes are there as the shape needs."""
        needed = bytes_of(stored)
        _, _, length = _place(stored)
        if length not in (None, needed):
            raise ModelFileError(
                f"the tensor {stored.name!r} has {length} bytes, its shape {tuple(stored.dims)} needs {needed}",
                where=self.name,
            )

    def _fill(self, stored: TensorProto, target: np.ndarray[Any, Any]) -> None:
        location, offset, _ = _place(stored)
        if location == "" and isinstance(self.source, bytes):
            if offset + target.size > len(self.source):
                raise ModelFileError(f"the file ends inside the tensor {stored.name!r}", where=self.name)
            target[:] = np.frombuffer(self.source, np.uint8, target.size, offset)
            return
        path = self.source if location == "" else self._external(location, stored.name)
        assert isinstance(path, Path)
        with path.open("rb", buffering=0) as file:
            if offset + target.size > path.stat().st_size:  # before the memory is touched
                raise ModelFileError(f"the file ends inside the tensor {stored.name!r}", where=str(path))
            file.seek(offset)
            if not _read_fully(file, target.data):
                raise ModelFileError(f"the file ends inside the tensor {stored.name!r}", where=str(path))

    def _external(self, location: str, tensor: str) -> Path:
        if self.folder is None:
            raise ModelFileError(
                f"the tensor {tensor!r} is in the external file {location}, and a ModelProto does not say where",
                hint="give the path of the .onnx file, or call onnx.load_external_data_for_model first",
            )
        path = self.folder / location
        try:
            inside = path.resolve().is_relative_to(self.folder.resolve())
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, a circle of links
            inside = False
        if not inside:
            raise ModelFileError(
                f"the tensor {tensor!r} is said to be in {location}, outside of the model's folder", where=self.name
            )
        if not path.is_file():
            raise ModelFileError(
                f"the external data file {location} is missing (the tensor {tensor!r} is in it)",
                where=self.name,
                hint=f"put {location} beside the .onnx file",
            )
        return path


def read(source: str | Path | ModelProto) -> Model:
    """Open a model; ModelFileError if it is absent, cut off or not ONNX. No bulk weight is read yet."""
    if isinstance(source, ModelProto):
        try:
            content = source.SerializeToString()
        except (ValueError, DecodeError) as error:
            raise ModelFileError(
                f"the ModelProto cannot be serialised: {error}", hint="save it and give the path of the .onnx file"
            ) from error
        return Model(_parse(strip(memoryview(content)), "ModelProto"), "ModelProto", content, None)
    path = Path(source)
    if not path.is_file():
        what = "this is not a regular file" if path.exists() else "there is no such file"
        raise ModelFileError(what, where=str(source))
    if path.stat().st_size == 0:
        raise ModelFileError("the file is empty", where=path.name)
    return Model(_parse(_stripped(path), path.name), path.name, path, path.parent)


def _stripped(path: Path) -> bytes:
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # unmapped with its last view
    try:
        return strip(memoryview(content))
    except ModelFileError as error:
        raise ModelFileError(error.what, where=path.name, hint=NOT_ONNX) from None


NOT_ONNX = "is it a complete .onnx file? A Git LFS pointer or an .ort file is not one"


def _parse(content: bytes, name: str) -> ModelProto:
    proto = ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError:
        raise ModelFileError("this is not an ONNX file, or it is cut off", where=name, hint=NOT_ONNX) from None
    if not proto.opset_import or not proto.graph.output:
        raise ModelFileError("this is not an ONNX model: it has no opset or no graph", where=name, hint=NOT_ONNX)
    if any(isinstance(text, bytes) for text in _texts(proto)):
        raise ModelFileError("the file is damaged: a name in it is not text", where=name, hint=NOT_ONNX)
    return proto


def _texts(proto: ModelProto) -> Iterator[str | bytes]:
    """Names as protobuf gives them: bytes where they are not valid UTF-8."""
    yield from (entry.domain for entry in proto.opset_import)
    yield from (tensor.name for tensor in proto.graph.initializer)
    yield from (info.name for info in (*proto.graph.input, *proto.graph.output))
    for node in proto.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


# What a tensor in another file may say of its place; the checksum is not looked at.
PLACE_KEYS = {"location", "offset", "length", "checksum"}


def _place(stored: TensorProto) -> tuple[str, int, int | None]:
    """(file, offset, length) of a tensor's bytes; the length may be missing."""
    place = {entry.key: entry.value for entry in stored.external_data}
    if unknown := sorted(set(place) - PLACE_KEYS):
        raise ModelFileError(f"the tensor {stored.name!r} is at a place of the unknown kind {unknown[0][:100]!r}")
    numbers = [place.get(key, default) for key, default in (("offset", "0"), ("length", ""))]
    if not (numbers[0].isdecimal() and (numbers[1] == "" or numbers[1].isdecimal()) and max(map(len, numbers)) < 20):
        raise ModelFileError(f"the tensor {stored.name!r} is at no place of a file: offset and length are not numbers")
    if place.get("location") == "":
        raise ModelFileError(f"the tensor {stored.name!r} is said to be in a file without a name")
    return place.get("location", ""), int(numbers[0]), int(numbers[1]) if numbers[1] else None


def bytes_of(stored: TensorProto) -> int:
    """What the shape of a tensor needs, whatever is there; ModelFileError for negative sizes."""
    if any(size < 0 for size in stored.dims):
        raise ModelFileError(f"the tensor {stored.name!r} has the shape {tuple(stored.dims)}")
    bits = STORED[stored.data_type].itemsize * 8 if stored.data_type in STORED else NARROW.get(stored.data_type, 8)
    return -(-int(math.prod(stored.dims)) * bits // 8)


def _read_fully(file: object, target: memoryview) -> bool:
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])  # type: ignore[attr-defined]
        if not count:
            return False
        done += count
    return True


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """Half floats as float32, all integers as int64; the rest as it is."""
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor if tensor.dtype.is_floating_point or tensor.dtype == torch.bool else tensor.long()


def restore(tensor: torch.Tensor, data_type: int) -> torch.Tensor:
    """`tensor` widened; one half-precision number also loses the rounding of a constant that it stands for."""
    wide = widen(tensor)
    if data_type not in HALF or wide.numel() != 1:
        return wide
    for number in GELU_CONSTANTS:
        if wide.item() == torch.tensor(number, dtype=STORED[data_type]).item():
            return torch.full_like(wide, number)
    return wide


def is_external(stored: TensorProto) -> bool:
    """Whether the values are outside of the message: in another file, or in this one behind a reference."""
    return bool(stored.data_location == TensorProto.EXTERNAL)


def type_name(data_type: int) -> str:
    """FLOAT16 of 10."""
    return str(TensorProto.DataType.Name(data_type)) if data_type in TensorProto.DataType.values() else str(data_type)


def tensors_of(proto: ModelProto) -> Iterator[TensorProto]:
    """All tensors of the main graph: initialisers and the values of Constant nodes."""
    yield from proto.graph.initializer
    for node in proto.graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))
