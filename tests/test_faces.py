"""The public names of `import mpcc`: all there, and nothing heavy is imported before one is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mpcc


@pytest.mark.parametrize("name", mpcc.__all__)
def test_a_public_name(name: str) -> None:
    assert getattr(mpcc, name).__module__.startswith("mpcc.")
    assert name in dir(mpcc)


def test_importing_mpcc_does_not_import_torch() -> None:
    code = "import sys, mpcc; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="optimise"):
        mpcc.optimise  # noqa: B018
