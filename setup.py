"""Names the packages, which pyproject.toml cannot say: all of mpcc/, and the two plug-in folders inside it; builds the C files.

Without a compiler, or on a processor that it was not written for, the installation goes on: mpcc computes the same in numpy.
"""

import platform

from setuptools import Extension, find_packages, setup

PLUGINS = ("passes", "costmodels")
FLAGS = {"x86_64": ["-mavx2", "-maes"], "AMD64": ["-mavx2", "-maes"], "aarch64": ["-march=armv8-a+crypto"], "arm64": []}
"""By processor: what lets the compiler use the AES instructions. Whether the processor at hand has them is asked when it runs."""

inside = [f"mpcc.{name}" for folder in PLUGINS for name in find_packages(include=[folder, f"{folder}.*"])]
gates = Extension(
    "mpcc.runtime.native._gates",  # loaded by ctypes: it knows nothing of Python, so one file serves all versions
    ["mpcc/runtime/native/gates.c", "mpcc/runtime/native/planes.c"],
    extra_compile_args=["-O3", *FLAGS.get(platform.machine(), [])],
    py_limited_api=True,
    optional=True,
)
setup(packages=[*find_packages(include=["mpcc", "mpcc.*"]), *inside], ext_modules=[gates])
