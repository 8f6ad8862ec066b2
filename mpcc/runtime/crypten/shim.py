"""Imports CrypTen under a current PyTorch; nothing else imports it.

CrypTen 0.4.1 imports `torch.onnx.symbolic_registry`, which torch removed. mpcc never uses CrypTen's ONNX converter, so
an empty stand-in is enough. What CrypTen warns about while it is imported (old regular expressions, removed torch
functions) does not concern the user; later warnings are shown.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from functools import cache
from types import ModuleType

from mpcc.errors import MissingDependency

INSTALL = "mpcc install-engine      (it asks for a package that refuses to be installed, so `pip install crypten` fails)"
REMOVED = "torch.onnx.symbolic_registry"


@cache
def import_crypten() -> ModuleType:
    """The package `crypten`, or a MissingDependency that says how to install it."""
    _stand_in(REMOVED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("crypten")
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"CrypTen cannot be imported: there is no module {error.name!r}",
                where="the crypten engine",
                hint=INSTALL,
            ) from error


def _stand_in(name: str) -> None:
    if name in sys.modules:
        return
    module = ModuleType(name)
    vars(module)["_registry"] = {}
    sys.modules[name] = module
