"""The quick tests and the type check under every Python that mpcc supports, as far as they are installed.

    pip install nox
    nox                        all of them
    nox -s tests-3.13          one
    nox -s wheel               what a wheel brings along: plug-ins, price tables, the C file
"""

from __future__ import annotations

from pathlib import Path

import nox

PYTHONS = ("3.11", "3.12", "3.13")
WHEEL = """
import importlib.resources, mpcc
from mpcc import registry
from mpcc.runtime.native import library
assert "site-packages" in mpcc.__file__, mpcc.__file__
assert len(registry.passes()) > 10 and len(registry.approximations()) > 20 and len(registry.protocols()) > 3
assert importlib.resources.files("mpcc.show").joinpath("report.html.j2").is_file()
assert library.library() is not None, library.description()
print(library.description())
"""
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests"]


def install(session: nox.Session, *what: str) -> None:
    """torch by itself first, as everywhere (constraints.txt); then the rest, and CrypTen past its requirements."""
    session.install("-c", "constraints.txt", "torch", "setuptools")
    session.install("-c", "constraints.txt", "--no-build-isolation", *what)
    session.run("mpcc", "install-engine")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The quick tests."""
    install(session, "--editable", ".[dev,mpc,serve]")
    session.run("python", "-m", "pytest", "-q", "-m", "not slow and not spu", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=PYTHONS)
def types(session: nox.Session) -> None:
    """mypy --strict."""
    install(session, "--editable", ".[dev,mpc,serve]")
    session.run("mypy")


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """Installed from a wheel, outside the checkout."""
    session.install("-c", "constraints.txt", "torch", "setuptools", "wheel")
    folder = Path(session.create_tmp())
    session.run("python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), ".")
    install(session, *(str(path) for path in sorted(folder.glob("mpcc-*.whl"))[-1:]))
    session.chdir(folder)
    session.run("python", "-c", WHEEL)
    session.run("mpcc", "doctor")
