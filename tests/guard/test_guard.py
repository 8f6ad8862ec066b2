"""The guard against dearer inference: `mpcc count --check` and the pytest fixture find a planted regression."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mpcc
from mpcc import pipeline, registry
from mpcc.approximate import Choice
from mpcc.cli import app
from mpcc.pipeline import Prepared
from mpcc.runtime.executable import Executable
from mpcc.search import default_plan
from tests.models.two_blocks import two_blocks

pytest_plugins = "pytester"
SITE = "blocks.1.attn.softmax"


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """Two blocks, ready for choices."""
    return pipeline.prepare(*two_blocks())


@pytest.fixture(scope="module")
def good(prepared: Prepared) -> Executable:
    """As mpcc compiles them."""
    plan = default_plan(prepared.graph, prepared.statistics, registry.approximations(), "bounded")
    return Executable(pipeline.schedule(prepared, plan), plan, prepared.graph)


@pytest.fixture(scope="module")
def dear(prepared: Prepared, good: Executable) -> Executable:
    """The same with one softmax of the second block by comparisons, as an edited plan has it."""
    options = registry.approximations()["softmax_max"].candidates(prepared.statistics[SITE])[0]
    plan = replace(good.plan, choices={**good.plan.choices, SITE: Choice("softmax_max", options)})
    return Executable(pipeline.schedule(prepared, plan), plan, prepared.graph)


def test_the_planted_regression_is_named_with_its_layer(good: Executable, dear: Executable) -> None:
    regressions = mpcc.count(dear).compare(mpcc.count(good))
    assert {regression.name for regression in regressions if regression.what == "site"} == {SITE}
    assert [regression.measure for regression in regressions if regression.what == "total"][:2] == ["rounds", "bytes"]


def test_count_check_fails_with_the_layer(
    good: Executable, dear: Executable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good.save("good.mpcc")
    dear.save("dear.mpcc")
    run = CliRunner()
    assert run.invoke(app, ["count", "good.mpcc", "--write", "counts.json"]).exit_code == 0
    assert run.invoke(app, ["count", "good.mpcc", "--check", "counts.json"]).exit_code == 0
    failed = run.invoke(app, ["count", "dear.mpcc", "--check", "counts.json"])
    assert failed.exit_code == 1
    assert "Cost regressions" in failed.stdout and SITE in failed.stdout
    assert "blocks.0.attn" not in failed.stdout


def test_the_fixture_fails_with_the_layer(
    good: Executable, dear: Executable, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written with --update-op-counts, passed, then failed: in a project of its own, with the plug-in as installed."""
    monkeypatch.setenv("COLUMNS", "140")
    tmp_path = pytester.path
    (tmp_path / "now.json").write_text(mpcc.count(good).to_json())
    (tmp_path / "test_mine.py").write_text(
        "from pathlib import Path\n"
        "from mpcc.cost import OpCounts\n\n\n"
        "def test_cheap(op_counts):\n"
        "    op_counts(OpCounts.from_json(Path('now.json').read_text()), name='two')\n"
    )
    absent = pytest_in(pytester)
    assert absent.ret == 1 and "there are no op counts in two.op-counts.json" in absent.stdout.str()
    assert pytest_in(pytester, "--update-op-counts").ret == 0
    assert (tmp_path / "two.op-counts.json").read_text() == (tmp_path / "now.json").read_text()
    assert pytest_in(pytester).ret == 0
    (tmp_path / "now.json").write_text(mpcc.count(dear).to_json())
    failed = pytest_in(pytester)
    said = failed.stdout.str()
    assert failed.ret == 1
    assert SITE in said and "blocks.0.attn" not in said
    assert "pytest --update-op-counts" in said


def test_the_plugin_imports_no_torch() -> None:
    code = "import sys, mpcc.testing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def pytest_in(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    return project.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options)
