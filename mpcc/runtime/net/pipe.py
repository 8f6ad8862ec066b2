"""Between a session and the processes that it starts: a JSON header and tensors over a private socket.

The weights and the program pass through no file, and nothing that is read is executed.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .transport import bytes_of

DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float32, torch.float64, torch.int64, torch.float16)}
Message = tuple[dict[str, Any], dict[str, Tensor]]


def send(sock: socket.socket, header: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
    """Send a message; tensors go out of their own memory."""
    held = {name: _plain(tensor) for name, tensor in (tensors or {}).items()}
    rows = [[name, str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in held.items()]
    text = json.dumps({"header": dict(header), "tensors": rows}).encode()
    sock.sendall(struct.pack("<Q", len(text)) + text)
    for tensor in held.values():
        sock.sendall(bytes_of(tensor))


def receive(sock: socket.socket) -> Message:
    """The next message. EOFError when the other end has gone."""
    size = bytearray(8)
    _fill(sock, memoryview(size))
    text = bytearray(struct.unpack("<Q", size)[0])
    _fill(sock, memoryview(text))
    document = json.loads(text)
    tensors = {}
    for name, dtype, shape in document["tensors"]:
        tensors[name] = torch.empty(shape, dtype=DTYPES[dtype])
        _fill(sock, bytes_of(tensors[name]))
    return document["header"], tensors


def _plain(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.dtype in DTYPES.values() else tensor.float()


def _fill(sock: socket.socket, view: memoryview) -> None:
    while view.nbytes:
        try:
            count = sock.recv_into(view, view.nbytes)
        except ConnectionResetError:
            count = 0
        if count == 0:
            raise EOFError
        view = view[count:]


class Child:
    """The end of a started process. When the session that started it is gone, the process ends at once."""

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)
        self._commands: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="from the session", daemon=True).start()

    def command(self) -> Message:
        return self._commands.get()

    def say(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
        try:
            send(self._socket, header, tensors)
        except OSError:
            os._exit(1)

    def _listen(self) -> None:
        try:
            while True:
                self._commands.put(receive(self._socket))
        except (EOFError, OSError):
            os._exit(1)
