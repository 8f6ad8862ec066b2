"""docs/plans.md: the split by hand works as shown, the table of recipes is the list of recipes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mpcc import registry

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "plans.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_split_by_hand() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_recipe_is_in_the_table() -> None:
    named = {name.split(":")[0] for name in re.findall(r"^\| `([^`]+)` \|", TEXT, re.M)}
    assert named == {one.name for one in registry.recipes().values() if one.choice != "budget"}
