"""The compiled kernels of `kernels.cu`: built once for a kind of GPU, kept in the user's cache, loaded by ctypes.

    build("sm_90")    by nvcc, for a GPU of compute capability 9.0 (some 30 s)
    build(HOST)       the same source by a C++ compiler: no GPU, for tests of everything around it

A file's name holds a hash of what it was built of, so another version of mpcc never loads it. The cache must be the user's alone:
what others could write there would run here.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import stat
import subprocess
from functools import cache
from pathlib import Path

from mpcc import files
from mpcc.errors import MissingDependency, SecurityError, UsageError

HOST = "host"
"""The name of a build for this CPU."""
FOLDER = Path(__file__).parent
SOURCES = ("launch.h", "aes.h", "kernels.cu")
VERSION = 1
ARCHITECTURE = re.compile(r"sm_(\d{2,3})")
OLDEST = 70
"""Compute capability: 7.0 is the oldest that current torch supports."""
NO_COMPILER = (
    "Install NVIDIA's CUDA toolkit (its nvcc must be on PATH or below $CUDA_HOME) and run `mpcc gpu --build`, "
    "or copy the built file from a machine that has it."
)
COMPILE_SECONDS = 900
FLAGS = ["-O3", "-std=c++17", "-shared"]


@cache
def source_hash() -> str:
    """Of all source files and the flags that they are compiled with."""
    made = hashlib.sha256(" ".join(FLAGS).encode())
    for name in SOURCES:
        made.update((FOLDER / name).read_bytes())
    return made.hexdigest()[:16]


def place(architecture: str) -> Path:
    """Where the kernels for an architecture are, or would be."""
    if architecture != HOST:
        found = ARCHITECTURE.fullmatch(architecture)
        if found is None or int(found[1]) < OLDEST:
            raise UsageError(f"{architecture!r} is not an architecture", hint=f"sm_80, sm_90 ... (at least sm_{OLDEST})")
    return files.cache_folder() / f"kernels-{source_hash()}-{architecture}.so"


def built() -> list[str]:
    """The architectures for which there are kernels of this version."""
    start = f"kernels-{source_hash()}-"
    return sorted(path.stem.removeprefix(start) for path in files.cache_folder().glob(f"{start}sm_*.so"))


def driver() -> bool:
    """Whether NVIDIA's driver runs here (Linux shows it as a device file)."""
    return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")))


def nvcc() -> str | None:
    """NVIDIA's compiler, where there is one."""
    home = os.environ.get("CUDA_HOME") or "/usr/local/cuda"
    return shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home) / "bin"))


def compiler(architecture: str) -> list[str]:
    """The command that compiles for an architecture, without files. MissingDependency where there is no compiler."""
    if architecture == HOST:
        found = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
        if found is None:
            raise MissingDependency("no C++ compiler was found", hint="Name one in $CXX.")
        return [found, *FLAGS, "-fPIC", "-x", "c++"]
    tool = nvcc()
    if tool is None:
        raise MissingDependency("the GPU's kernels are not built, and nvcc was not found", hint=NO_COMPILER)
    return [tool, *FLAGS, f"-arch={architecture}", "-Xcompiler", "-fPIC"]


def build(architecture: str) -> Path:
    """Compile, unless it was done before; the file. MissingDependency without a compiler, or where it fails."""
    wanted = place(architecture)
    if wanted.exists():
        return wanted
    command = compiler(architecture)
    try:
        _compile(command, wanted)
    except OSError as error:
        what = f"the built kernels cannot be kept: {error.strerror or error}"
        raise MissingDependency(what, where=str(wanted), hint="$XDG_CACHE_HOME names another folder for them.") from None
    return wanted


def _compile(command: list[str], wanted: Path) -> None:
    wanted.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with files.replacing(wanted, private=True) as made:
        try:
            done = subprocess.run(
                [*command, str(FOLDER / SOURCES[-1]), "-o", str(made)], capture_output=True, text=True, timeout=COMPILE_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MissingDependency(f"{command[0]} did not run: {error}", where="kernels.cu") from None
        if done.returncode:
            said = "\n".join(done.stderr.strip().splitlines()[:5])
            raise MissingDependency(f"{command[0]} could not compile the kernels: {said}", where="kernels.cu", hint=NO_COMPILER)


@cache
def load(architecture: str) -> ctypes.CDLL:
    """The kernels, built first where that is possible. MissingDependency, SecurityError."""
    path = build(architecture)
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SecurityError("others can write this file, which would run here", where=str(path), hint="Delete it.")
    try:
        loaded = ctypes.CDLL(str(path))
        if loaded.kernels_version() != VERSION:
            raise OSError("it is of another version")
    except (OSError, AttributeError) as error:
        raise MissingDependency(f"the built kernels cannot be loaded: {error}", where=str(path), hint="Delete it.") from None
    loaded.error_text.restype = ctypes.c_char_p
    return loaded
