"""mpcc install-engine: CrypTen into the environment that mpcc runs in.

CrypTen 0.4.1 requires the package `sklearn`, which refuses to be installed by anybody, and which it never imports. So it is
installed without its requirements, after those that it does use; no extra of pip can say that.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from typing import Annotated

import typer

from mpcc.errors import MissingDependency

from .screen import pasted, say

CRYPTEN = "crypten==0.4.1"
NEEDS = ("omegaconf>=2.3", "pyyaml>=6")
"""As in mpcc[mpc]."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("install-engine")(install_engine)


def install_engine(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, and run none.")] = False,
) -> None:
    """Install CrypTen, which `mpcc run` needs, beside mpcc."""
    commands = [[*installer(), *NEEDS], [*installer(), "--no-deps", CRYPTEN]]
    for command in commands:
        say(pasted(*command))
        if not dry_run:
            _run(command)
    if not dry_run:
        from mpcc.runtime.crypten.shim import import_crypten

        importlib.invalidate_caches()
        import_crypten()
        say("CrypTen is installed, and can be imported. `mpcc doctor` checks the rest.")


def installer() -> list[str]:
    """What installs packages into this environment: pip, or uv where there is no pip. MissingDependency without both."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise MissingDependency("there is neither pip nor uv in this environment", hint=f"{sys.executable} -m ensurepip")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "error"))] or done.stderr.splitlines()
        raise MissingDependency(
            f"it could not be installed: {'; '.join(said[-2:])[:300] or f'exit code {done.returncode}'}",
            where=pasted(*command),
            hint="Is there a connection to the package index? Run the command by hand to see all that it says.",
        )
