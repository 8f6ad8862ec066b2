"""Names the packages, which pyproject.toml cannot say: all of mpcc/, and the two plug-in folders inside it."""

from setuptools import find_packages, setup

PLUGINS = ("passes", "costmodels")
inside = [f"mpcc.{name}" for folder in PLUGINS for name in find_packages(include=[folder, f"{folder}.*"])]
setup(packages=[*find_packages(include=["mpcc", "mpcc.*"]), *inside])
