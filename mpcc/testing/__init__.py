"""A pytest plugin: the fixture `op_counts`, which fails a test when a change makes private inference more expensive.

    def test_private_inference_stays_cheap(op_counts):
        op_counts("model.onnx", name="classifier")      # compares with classifier.op-counts.json beside the test

    pytest --update-op-counts                           # writes the files; commit them
    pytest --op-counts                                  # ends in a table of all that was counted, and what changed

Installed as `mpcc` among pytest's plugins. Nothing heavy is imported before the fixture is called. For authors of plug-ins,
`mpcc.testing.contracts` has the checks that every approximation and every pass must stand.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mpcc import files

if TYPE_CHECKING:
    from mpcc.cost import OpCounts, Regression

SUFFIX = ".op-counts.json"
OPTION = "--update-op-counts"
TABLE = "--op-counts"
COUNTED = pytest.StashKey[list[tuple[str, "OpCounts", "OpCounts | None"]]]()
"""(name, counts, the committed ones) of each model that the fixture counted."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-op-counts` and `--op-counts`"""
    group = parser.getgroup("mpcc", "private inference")
    group.addoption(OPTION, action="store_true", help="write the op counts that `op_counts` compares with")
    group.addoption(TABLE, action="store_true", help="print what every model counted by `op_counts` costs, and what changed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of `--op-counts`."""
    found = config.stash.get(COUNTED, [])
    if config.getoption(TABLE) and found:
        terminalreporter.section("op counts of private inference")
        for name, now, before in found:
            rounds, size = (now.rounds, now.bytes) if before is None else (before.rounds, before.bytes)
            terminalreporter.write_line(f"{name}: {_against(now.rounds, rounds)} rounds, {_against(now.bytes, size)} bytes")


def _against(now: int, before: int) -> str:
    """`91`, or `91 (+3)` where it was 88."""
    return f"{now:,}" if now == before else f"{now:,} ({now - before:+,})"


@pytest.fixture
def op_counts(request: pytest.FixtureRequest) -> Callable[..., OpCounts]:
    """op_counts(model, name=..., example_inputs=..., calibration=..., tolerance=...) -> OpCounts

    `model`: whatever mpcc.compile takes (a module with example inputs, a graph, an ONNX file), an Executable, a bundle
    folder, or OpCounts. `name`: of the file beside the test, by default the test's own. `tolerance`: the relative increase
    that is tolerated, one for all or by measure ("rounds", "bytes", "calls").
    """
    if "TORCH_TRACE" not in os.environ:  # nobody reads torch's trace, and pytest would show its empty lines below a failure
        logging.getLogger("torch.__trace").disabled = True
    folder = Path(request.path).parent
    update = bool(request.config.getoption(OPTION))
    own = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")

    def check(
        model: Any,
        example_inputs: Sequence[Any] | None = None,
        *,
        name: str = own,
        calibration: Any = None,
        tolerance: Mapping[str, float] | float = 0.0,
    ) -> OpCounts:
        __tracebackhide__ = True
        now = _count(model, example_inputs, calibration)
        file = folder / f"{name}{SUFFIX}"
        known = _read(file) if file.is_file() and request.config.getoption(TABLE) else None
        request.config.stash.setdefault(COUNTED, []).append((name, now, known))
        if update:
            files.write(file, now.to_json())
            return now
        if not file.is_file():
            pytest.fail(f"there are no op counts in {file.name}: write them with `pytest {OPTION}`", pytrace=False)
        regressions = now.compare(_read(file), tolerance)
        if regressions:
            pytest.fail(_message(regressions, file.name), pytrace=False)
        return now

    return check


def _count(model: Any, example_inputs: Sequence[Any] | None, calibration: Any) -> OpCounts:
    from mpcc import pipeline
    from mpcc.cost import OpCounts
    from mpcc.cost.machine import REFERENCE
    from mpcc.runtime.executable import Executable

    if isinstance(model, OpCounts):
        return model
    if isinstance(model, str | Path) and Path(model).is_dir():
        return pipeline.count(pipeline.load(model))
    if not isinstance(model, Executable):
        model = pipeline.compile(model, example_inputs, calibration=calibration, machine=REFERENCE)  # the same everywhere
    return pipeline.count(model)


def _read(file: Path) -> OpCounts:
    from mpcc.cost import OpCounts

    return OpCounts.from_json(file.read_text(encoding="utf-8"), file.name)


def _message(regressions: list[Regression], file: str) -> str:
    """The regressions as a table."""
    from rich.console import Console

    from mpcc.cost import table_of_regressions

    console = Console(width=110, color_system=None)
    with console.capture() as text:
        console.print(table_of_regressions(regressions))
    return f"private inference costs more than {file} allows\n{text.get()}if that is intended: pytest {OPTION}"
