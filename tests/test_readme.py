"""The README: its session prints what stands below it, its figures agree with it, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import readme
from mpcc import security
from mpcc.cli import app
from mpcc.show import units

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
AGAIN = "python -m benchmarks.readme --write brings README.md up to date"


@pytest.mark.slow
def test_the_session_prints_what_stands_below_it() -> None:
    found = readme.SESSION.search(TEXT)
    assert readme.session_output(TEXT) == found["output"], AGAIN


def test_the_results_agree_with_the_session() -> None:
    """Rounds of both, and bytes to the precision of the table."""
    found = re.search(r"(\d+) -> (\d+) rounds, ([\d,]+) -> ([\d,]+) bytes", TEXT)
    assert found is not None
    old_rounds, new_rounds = found[1], found[2]
    old_bytes, new_bytes = (units.size(int(text.replace(",", ""))) for text in (found[3], found[4]))
    assert f"| online rounds | {old_rounds} | {new_rounds} " in TEXT, AGAIN
    assert f"| online bytes | {old_bytes} | {new_bytes} " in TEXT, AGAIN


def test_the_security_statement_is_the_one_that_is_printed() -> None:
    assert readme.with_security(TEXT) == TEXT, AGAIN
    assert security.SUMMARY in TEXT


def test_the_session_has_six_lines() -> None:
    assert len(readme.SESSION.search(TEXT)["code"].splitlines()) == 6


@pytest.mark.parametrize("name", sorted(set(re.findall(r"mpcc ([a-z]+) [A-Z]", TEXT)) | {"passes", "networks"}))
def test_a_command_exists(name: str) -> None:
    assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)|`([\w/]+\.(?:md|py))`", TEXT))))
def test_a_file_that_is_named_exists(link: tuple[str, str]) -> None:
    assert (ROOT / (link[0] or link[1])).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\w+)", TEXT, re.M))))
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
