"""CrypTen comes in through one door, and when it is missing the message says how to install it."""

from __future__ import annotations

import importlib
import sys
import warnings

import pytest

from mpcc.errors import MissingDependency
from mpcc.runtime.crypten import shim


def test_crypten_imports_without_warnings() -> None:
    pytest.importorskip("omegaconf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shim.import_crypten.__wrapped__().__name__ == "crypten"


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'omegaconf'", name="omegaconf")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDependency) as caught:
        shim.import_crypten.__wrapped__()
    assert "'omegaconf'" in caught.value.what
    assert "mpcc install-engine" in str(caught.value.hint)


def test_a_module_that_torch_still_has_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, shim.REMOVED, sys)
    shim._stand_in(shim.REMOVED)
    assert sys.modules[shim.REMOVED] is sys
