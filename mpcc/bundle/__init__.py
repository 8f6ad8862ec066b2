"""A bundle: the folder in which an optimised model is stored, exchanged and run.

    plan.json             the choice at every site
    model.onnx            the rewritten model in standard operators (if it can be expressed in ONNX); for the server only
    program.json          what the parties run, without the weights
    weights.safetensors   the weights; for the server only
    prefix.onnx           what of the model depends on the input and public parameters alone, where there are some
    public.safetensors    the public ones of the program's weights, where there are some
    circuit.json          what another engine runs, in a bundle for a protocol that has one (mpcc.ir.circuit)
    circuit.safetensors   the weights at the circuit's scales; for the server only
    report.html           what was changed and what it costs; for the server only
    owner.json            the key of all hashes over what is not public; for the server only
    manifest.json         the hash of each file, digest of the program, version of the model
    public/               exactly what the client and the dealer may have: manifest.json, plan.json and program.json; and
                          prefix.onnx, public.safetensors and circuit.json where there are

The same model and plan give the same bytes, but for the key and its hashes. A bundle holds data only: reading it
runs no code from it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .read import Bundle, open_bundle
    from .write import Contents, save

__all__ = ["Bundle", "Contents", "open_bundle", "save"]

_HOMES = {"Bundle": "read", "open_bundle": "read", "Contents": "write", "save": "write"}


def __getattr__(name: str) -> Any:
    """Reading and writing need torch; what is said of a folder at first sight (`folder`) does not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
