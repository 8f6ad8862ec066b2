"""What is installed: the lines of `mpcc --version`, and the checks of `mpcc doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .screen import console, emit

OLDEST, NEWEST_TRIED = (3, 11), (3, 13)
CRYPTEN = "crypten"
ENGINES = {CRYPTEN: "CrypTen", "spu": "SPU"}
INSTALL_CRYPTEN = "mpcc install-engine"
FREE_GIGABYTES = 2.0
"""What a small ViT's parties take together on one machine, with torch in each of the three processes."""
GOOD, POOR, BAD = "ok", "note", "FAULT"
EPILOG = "Examples: mpcc doctor\n\nmpcc doctor --tls keys/server      (also whether these certificates are whole and still valid)"


@dataclass(frozen=True)
class Check:
    """One finding: `state` is ok, note (works, but ...) or FAULT; `hint` says what to do about it."""

    what: str
    state: str
    found: str
    hint: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", epilog=EPILOG)(doctor)


def versions() -> list[str]:
    """What `mpcc --version` prints below its first line; nothing is imported for it."""
    from mpcc.runtime.native import library

    found = [f"Python {platform.python_version()}, torch {_installed('torch')}, numpy {_installed('numpy')}"]
    found += [f"{title}: {_installed(name)}" for name, title in ENGINES.items()]
    return [*found, f"spline gates: {library.description()}", f"GPU: {gpu()}"]


def gpu() -> str:
    """Whether parties can compute on a GPU here. Torch is imported only where the driver is."""
    from mpcc.runtime.device import compiled

    if not compiled.driver():
        return "none (parties run on the CPU)"
    import torch

    if torch.version.cuda is None:
        return "none that torch can use (it was built without CUDA)"
    count = torch.cuda.device_count()
    kernels = compiled.built()
    state = f"kernels built for {', '.join(kernels)}" if kernels else "kernels not built (mpcc gpu --build)"
    return f"{count} ({torch.cuda.get_device_name(0)}), {state}" if count else "none that torch can see"


def doctor(
    tls: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also look at a folder of `mpcc keys`.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Check this installation, and say what to do about each fault. Exits with 1 if there is one."""
    from mpcc.errors import CheckFailed

    found = [*checks(), *([] if tls is None else [_certificates(tls)])]
    if as_json:
        emit({"checks": [asdict(one) for one in found], "versions": versions()})
    else:
        out = console()
        for one in found:
            out.print(f"{one.state:<6}{one.what}: {one.found}", highlight=False, markup=False)
            if one.hint:
                out.print(f"      {one.hint}", highlight=False, markup=False)
    faults = [one.what for one in found if one.state == BAD]
    if faults:
        raise CheckFailed(f"{len(faults)} fault(s): {', '.join(faults)}", hint="Each says above what to do.")


def checks() -> Iterator[Check]:
    """All checks in the order in which their faults would be met."""
    for look in (_python, _torch, _crypten, _plugins, _gates, _cores, _memory, _ports, _cache):
        yield _guarded(look)


def _guarded(look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # whatever is broken here is a finding, not the end of the list
        return Check(look.__name__.strip("_"), BAD, f"{type(error).__name__}: {error}", "Install mpcc again.")


def _python() -> Check:
    own = sys.version_info[:2]
    if own < OLDEST:
        return Check("Python", BAD, platform.python_version(), f"mpcc needs {OLDEST[0]}.{OLDEST[1]} or newer.")
    hint = "" if own <= NEWEST_TRIED else f"Newer than what was tried ({NEWEST_TRIED[0]}.{NEWEST_TRIED[1]})."
    return Check("Python", POOR if hint else GOOD, platform.python_version(), hint)


def _torch() -> Check:
    import torch

    return Check("torch", GOOD, f"{torch.__version__}, {torch.get_num_threads()} thread(s)")


def _crypten() -> Check:
    if importlib.util.find_spec(CRYPTEN) is None:
        return Check("CrypTen", BAD, "not installed: models can be optimised and priced, but not run", INSTALL_CRYPTEN)
    from mpcc.errors import MpccError
    from mpcc.runtime.crypten.shim import import_crypten

    try:
        import_crypten()
    except MpccError as error:
        return Check("CrypTen", BAD, error.what, error.hint or INSTALL_CRYPTEN)
    return Check("CrypTen", GOOD, _installed(CRYPTEN))


def _plugins() -> Check:
    from mpcc import registry

    counts = {
        "approximations": len(registry.approximations()), "passes": len(registry.passes()),
        "recipes": len(registry.recipes()), "protocols": len(registry.protocols()),
    }  # fmt: skip
    missing = [name for name, number in counts.items() if not number]
    text = ", ".join(f"{number} {name}" for name, number in counts.items())
    return Check("plug-ins", BAD if missing else GOOD, text, "Install mpcc again: its plug-ins are missing." if missing else "")


def _gates() -> Check:
    from mpcc.runtime.native import library

    fast = library.library() is not None
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    has = f"this machine has {compiler}: install mpcc again." if compiler else "install a C compiler, then mpcc again."
    return Check("spline gates", GOOD if fast else POOR, library.description(), "" if fast else f"They work, slowly; {has}")


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    hint = "" if cores >= 2 else "Two parties on one core take twice as long as on machines of their own."
    return Check("cores", POOR if hint else GOOD, str(cores), hint)


def _memory() -> Check:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (ValueError, OSError, AttributeError):
        return Check("memory", POOR, "unknown on this system")
    hint = "" if free >= FREE_GIGABYTES else f"Three processes with torch want {FREE_GIGABYTES:g} GB free."
    return Check("memory", POOR if hint else GOOD, f"{free:.1f} GB free", hint)


def _ports() -> Check:
    """Parties on one machine talk over sockets of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()[:2], timeout=5.0):
            return Check("ports", GOOD, "connections within this machine work")


def _cache() -> Check:
    from mpcc import files

    folder = files.cache_folder()
    try:
        files.check_writable(folder / "x", parents=True)
    except OSError as error:
        return Check("cache", POOR, f"{folder}: {error.strerror}", "Each prediction measures this machine again.")
    return Check("cache", GOOD, str(folder))


def _certificates(folder: Path) -> Check:
    from mpcc.errors import MpccError
    from mpcc.runtime.net.identity import Identity

    role = folder.name if folder.name in ("server", "client", "dealer") else "client"
    try:
        Identity.of(folder, role).context(server=role != "client")
    except MpccError as error:
        return Check("certificates", BAD, str(error).splitlines()[0], error.hint or "Make new ones with `mpcc keys`.")
    return Check("certificates", GOOD, f"{folder}, of the {role}")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
