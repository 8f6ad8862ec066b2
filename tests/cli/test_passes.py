"""`mpcc passes --order` and `mpcc optimize --dump`: which passes run when, and what each made of a model."""

from __future__ import annotations

import json
from pathlib import Path

from mpcc import registry
from tests.cli.conftest import Mpcc


def test_the_order_is_the_one_that_runs(mpcc: Mpcc) -> None:
    order = json.loads(mpcc("passes", "--order", "--json").out)["order"]
    for level in ("nn", "mpc"):
        assert [row["name"] for row in order[level]] == [one.name for one in registry.pass_order(level)]
        before: set[str] = set()
        for row in order[level]:
            assert set(row["after"]) <= before
            before.add(row["name"])


def test_the_order_as_a_table_names_every_pass(mpcc: Mpcc) -> None:
    shown = mpcc("passes", "--order").out
    assert all(name in shown for name in registry.passes())


def test_the_graph_after_every_step_is_written(mpcc: Mpcc, model: Path, calibration: Path, tmp_path: Path) -> None:
    paths = ["--calibration", str(calibration), "-o", str(tmp_path / "b"), "--dump", str(tmp_path / "d")]
    done = mpcc("optimize", str(model), *paths)
    assert done.code == 0
    written = {file.name for file in (tmp_path / "d").iterdir()}
    index = (tmp_path / "d" / "00-index.txt").read_text()
    assert {line.split()[-1] for line in index.splitlines()} - {"unchanged"} == written - {"00-index.txt"}
    assert any("-online-lower" in name for name in written)


def test_a_front_has_no_single_plan_to_write(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    done = mpcc("optimize", str(model), "--pareto", "--dump", str(tmp_path / "d"))
    assert done.code == 2 and "--dump" in done.err
