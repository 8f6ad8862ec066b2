"""Whose seconds are predicted: this machine is measured where nothing that holds is kept, once, and never against its name.

The process that measures is the real one, but what it would measure is given: no test depends on a machine's speed.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

import mpcc
from mpcc import pipeline
from mpcc.cost import Compute
from mpcc.cost.machine import REFERENCE, THIS, Machine
from mpcc.errors import Measured, UsageError
from mpcc.runtime import this_machine
from mpcc.runtime.benchmark import QUICK
from mpcc.runtime.this_machine import speed_of
from mpcc.search.target import Target
from tests.models.two_blocks import two_blocks

INSTEAD = """
import sys
from pathlib import Path
from mpcc.cost import Compute
from mpcc.cost.machine import Machine
from mpcc.runtime import benchmark, this_machine

def measure(repeats):
    with Path(sys.argv[1]).open("a") as times:
        times.write(f"{repeats}\\n")
    return Machine.here(Compute("now", per_kernel=1.0, per_round=0.5))

benchmark.measure = measure
this_machine.main()
"""


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a file with a line for every measurement."""
    times = tmp_path / "times"
    times.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(this_machine, "COMMAND", (sys.executable, "-P", "-c", INSTEAD, str(times)))
    return times


def lines(times: Path) -> int:
    return len(times.read_text().splitlines())


def test_the_first_prediction_measures_and_what_it_found_is_kept(measured: Path) -> None:
    with pytest.warns(Measured, match="not measured before"):
        first = mpcc.estimate(*two_blocks())
    assert first.machine["name"] == "this machine" and first.seconds > 1
    assert measured.read_text() == f"{QUICK}\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error", Measured)
        made = mpcc.optimize(*two_blocks())
        assert mpcc.estimate(*two_blocks()).machine == first.machine == made.plan.notes["machine"]
        assert made.plan.notes["seconds"] == made.estimate.seconds
    assert lines(measured) == 1


def test_another_machine_or_version_is_measured_anew(measured: Path) -> None:
    replace(Machine.here(Compute("x")), torch="1.0", cores=1000).write()
    with pytest.warns(Measured, match="another number of cores, version of torch"), speed_of(None) as speed:
        found = speed()
        assert found is speed() and found is not None and found.compute.per_kernel == 1.0
    assert lines(measured) == 1 and not found.again


def test_a_contradicted_measurement_is_measured_anew(measured: Path) -> None:
    replace(Machine.here(Compute("x")), stale=True).write()
    with pytest.warns(Measured, match="a run disagreed"), speed_of(THIS) as speed:
        found = speed()
    assert found is not None and found.again and Machine.kept() == found


def test_two_commands_that_start_together_measure_once(measured: Path) -> None:
    with pytest.warns(Measured), speed_of(None) as one, speed_of(None) as other:
        assert one() == other() is not None
    assert lines(measured) == 1


@pytest.mark.parametrize("machine", [REFERENCE, "file", "machine"])
def test_what_is_named_is_taken_and_nothing_measured(measured: Path, tmp_path: Path, machine: str) -> None:
    other = Machine("2026-01-31", "another processor", "2.13", Compute("x", per_kernel=2.0))
    chosen = {"file": other.write(tmp_path / "other.json"), "machine": other}.get(machine, machine)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Measured)
        with speed_of(chosen) as speed:
            found = speed()
        compute = pipeline.compute_of(Target(machine=chosen))
    assert (found is None) == (machine == REFERENCE)
    assert compute.per_kernel == (2.0 if found else pipeline.compute_of(Target(machine=REFERENCE)).per_kernel)
    assert lines(measured) == 0 and not Machine.file().exists()


def test_counts_and_programs_need_no_seconds(measured: Path) -> None:
    mpcc.count(*two_blocks(), machine="reference")
    mpcc.estimate(*two_blocks(), protocol="semi2k")
    with pytest.raises(UsageError, match="invalid machine"):
        pipeline.prepared_for(Target(machine="absent.json"), *two_blocks())
    assert lines(measured) == 0


@pytest.mark.parametrize("command", [("false",), ("absent-program",), ("echo", "no measurement")])
def test_a_broken_measurement_falls_back_to_the_reference(
    measured: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(this_machine, "COMMAND", command)
    with pytest.warns(Measured, match="could not be measured .*reference machine"):
        assert mpcc.estimate(*two_blocks()).machine["name"] == REFERENCE
    with pytest.raises(UsageError, match="could not be measured"), speed_of(THIS) as speed:
        speed()
    assert not Machine.file().exists()


def test_a_slow_measurement_is_given_up(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_machine, "COMMAND", ("sleep", "600"))
    monkeypatch.setattr(this_machine, "PATIENCE", 0.2)
    with pytest.warns(Measured, match="longer than 0.2 s"), speed_of(None) as speed:
        assert speed() is None


def test_a_killed_measurement_leaves_nothing_half_written(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command fails, or is interrupted, while another process measures, which has a process of its own."""
    working = this_machine.COMMAND
    script = f"{INSTEAD.partition('def measure')[0]}\nimport os, subprocess\n"
    script += "def measure(repeats):\n    other = subprocess.Popen(['sleep', '600'])\n"
    script += "    Path(sys.argv[1]).write_text(f'{os.getpid()} {other.pid} ')\n    other.wait()\n"
    script += "benchmark.measure = measure\nthis_machine.main()\n"
    monkeypatch.setattr(this_machine, "COMMAND", (sys.executable, "-P", "-c", script, str(measured)))
    with pytest.raises(KeyboardInterrupt), speed_of(None):
        while not measured.read_text().endswith(" "):
            time.sleep(0.05)
        raise KeyboardInterrupt
    _, other = map(int, measured.read_text().split())
    while Path(f"/proc/{other}").exists() and "Z" not in Path(f"/proc/{other}/stat").read_text():
        time.sleep(0.05)
    assert [path.name for path in (tmp_path / "cache" / "mpcc").iterdir()] == ["machine.lock"]
    measured.write_text("")
    monkeypatch.setattr(this_machine, "COMMAND", working)
    with pytest.warns(Measured), speed_of(None) as speed:
        assert speed() == Machine.kept() is not None


def test_a_cache_that_cannot_be_written_costs_a_measurement_each_time(measured: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()  # no folder can be made there, even by root
    for times in (1, 2):
        with pytest.warns(Measured, match=r"before\)$"), speed_of(None) as speed:
            assert speed() is not None
        assert lines(measured) == times
