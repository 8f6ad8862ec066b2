"""The weights of an ONNX file without reading them: the file's bytes with each large payload replaced by its place.

A 330 MB file becomes some 100 kB of ordinary protobuf. A stripped tensor looks like one of ONNX's own external tensors
(`offset`, `length`) without a `location`, which stands for the file itself; one reader serves both kinds.

    strip(memoryview(file)) -> bytes of a ModelProto

Wire format: protobuf.dev/programming-guides/encoding; field numbers: onnx/onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from onnx import TensorProto

from mpcc.errors import ModelFileError

# Messages on the way from the model to a tensor: {message: {field number: message}}.
CHILDREN = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph"},
    "tensor": {},
}
FLOAT_DATA, RAW_DATA = 4, 9
VARINT, I64, LEN, I32 = 0, 1, 2, 5
# Below this many bytes a message is copied as it is: constants of shapes and the like.
SMALL = 4096
# What a graph may be without its weights: protobuf makes Python objects of all of it. A file of 20,000 nodes has a
# tenth of these. Protobuf itself refuses deeper nesting than 100.
MOST_FIELDS, MOST_BYTES, DEEPEST = 1 << 20, 1 << 26, 64


class Field(NamedTuple):
    """One field of a message: where it starts (its tag), where its content starts, where it ends."""

    number: int
    wire_type: int
    start: int
    content: int
    end: int


def strip(buffer: memoryview) -> bytes:
    """The same model with every large tensor payload turned into a reference; ModelFileError when it is cut off."""
    budget = _Budget()
    return budget.join(_strip(buffer, "model", 0, len(buffer), budget))


class _Budget:
    """What is left of the limits above."""

    def __init__(self) -> None:
        self.fields, self.bytes, self.depth = MOST_FIELDS, MOST_BYTES, DEEPEST

    def field(self) -> None:
        self.fields -= 1
        if self.fields < 0:
            raise ModelFileError(f"the graph has more than {MOST_FIELDS:,} fields")

    def join(self, pieces: Iterator[bytes | memoryview]) -> bytes:
        self.depth -= 1
        if self.depth < 0:
            raise ModelFileError(f"its graphs are nested more than {DEEPEST} deep")
        kept = []
        for piece in pieces:
            self.bytes -= len(piece)
            if self.bytes < 0:
                raise ModelFileError(f"the graph without its weights has more than {MOST_BYTES:,} bytes")
            kept.append(piece)
        self.depth += 1
        return b"".join(kept)


def _strip(buffer: memoryview, message: str, start: int, end: int, budget: _Budget) -> Iterator[bytes | memoryview]:
    payload: Field | None = None
    kept = start
    for field in _fields(buffer, start, end):
        budget.field()
        if field.wire_type != LEN or field.end - field.content < SMALL:
            continue
        child = CHILDREN[message].get(field.number)
        is_payload = message == "tensor" and field.number in (RAW_DATA, FLOAT_DATA) and payload is None
        if child is None and not is_payload:
            continue
        yield buffer[kept : field.start]
        kept = field.end
        if child is None:
            payload = field
            continue
        body = budget.join(_strip(buffer, child, field.content, field.end, budget))
        yield _varint(field.number << 3 | LEN) + _varint(len(body)) + body
    yield buffer[kept:end]
    if payload is not None:
        yield _reference(payload)


def _reference(payload: Field) -> bytes:
    tensor = TensorProto(data_location=TensorProto.EXTERNAL)
    size = payload.end - payload.content
    for key, value in (("offset", str(payload.content)), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    return bytes(tensor.SerializeToString())


def _fields(buffer: memoryview, start: int, end: int) -> Iterator[Field]:
    position = start
    while position < end:
        tag, content = _read_varint(buffer, position, end)
        stop = _stop(buffer, tag & 7, content, end)
        if tag & 7 == LEN:
            size, content = _read_varint(buffer, content, end)
            stop = content + size
        if stop > end:
            raise ModelFileError(f"the file is cut off: a field of {stop - content} bytes ends after the file does")
        yield Field(tag >> 3, tag & 7, position, content, stop)
        position = stop


def _stop(buffer: memoryview, wire_type: int, content: int, end: int) -> int:
    if wire_type == VARINT:
        return _read_varint(buffer, content, end)[1]
    if wire_type == LEN:
        return content
    if wire_type in (I64, I32):
        return content + (8 if wire_type == I64 else 4)
    raise ModelFileError(f"this is not an ONNX file: byte {content} has wire type {wire_type}")


def _read_varint(buffer: memoryview, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 64:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ModelFileError("this is not an ONNX file, or it is cut off")


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
