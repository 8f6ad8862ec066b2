"""Names the packages, which pyproject.toml cannot say: all of mpcc/, and the two plug-in rooms inside it."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["mpcc", "mpcc.*"]), "mpcc.passes", "mpcc.costmodels"])
