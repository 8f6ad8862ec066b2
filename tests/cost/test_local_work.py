"""Local work: the counts of the online kernels against torch's dispatcher, and a machine's constants in a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mpcc.cost import Compute
from mpcc.cost.machine import CONDITIONS, Machine
from mpcc.errors import UsageError
from mpcc.ir.limbs import Speed
from mpcc.program.local import Local, local_work
from mpcc.runtime.benchmark import Case, cases, fit, measure
from mpcc.runtime.device.device import CPU


class Dispatched(TorchDispatchMode):
    """Counts operations, and elements of those that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.calls += 1
        if isinstance(result, torch.Tensor) and not function.is_view:
            self.elements += result.numel()
        return result


FOUND = list(cases(1024))


@pytest.mark.parametrize("case", FOUND, ids=[f"{case.name}-{i}" for i, case in enumerate(FOUND)])
@pytest.mark.parametrize("lead", [True, False])
def test_the_counts_are_those_of_the_dispatcher(case: Case, lead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a fifth; of elements, not what numpy packs, nor what a batched product only reshapes."""
    monkeypatch.setattr("mpcc.ir.limbs.speed", lambda: Speed(1e-9, 1.0, 1.0))  # on every machine by way of integers
    node = case.node
    takes_lead = node.target.__name__ not in ("mask_with", "combine", "weight_product")  # type: ignore[union-attr]
    args = torch.fx.node.map_arg(node.args, lambda n: case.env[n.name])
    if case.name == "weight_product" and not lead:
        pytest.skip("the client has no weight")
    with Dispatched() as seen:
        CPU.online([]).get(node.target, node.target)(*args, **({"lead": lead} if takes_lead else {}))  # type: ignore
    counted = local_work(node, lead)
    assert counted.calls == pytest.approx(seen.calls, rel=0.2, abs=3)
    if case.name not in ("leaves", "bit_number", "select", "product"):
        assert counted.elements == pytest.approx(seen.elements, rel=0.2)


def test_a_fit_finds_constants_that_explain_the_times() -> None:
    each = Local(1e-5, 2e-6, 1e-9, 3e-10)
    amounts = [(5, 100, 0), (50, 1e5, 0), (9, 4e3, 1e6), (20, 10, 1e4), (1, 1e6, 0)]
    rows = [Local(1, *amount) for amount in amounts]
    times = [
        row.kernels * each.kernels + row.calls * each.calls + row.elements * each.elements + row.macs * each.macs
        for row in rows
    ]
    found = fit(rows, times)
    assert found.calls == pytest.approx(each.calls) and found.macs == pytest.approx(each.macs)


@pytest.mark.parametrize("alone", [False, True])
def test_a_calibration_gives_seconds_for_all_local_work(alone: bool) -> None:
    found = measure(alone=alone, repeats=2)
    assert found.alone is alone
    work = found.compute
    assert work.per_element > 0 and work.per_round > 0 and work.per_kernel + work.per_call > 0 and work.per_mac >= 0


def test_what_was_found_comes_back(tmp_path: Path) -> None:
    compute = Compute("x", per_round=1e-4, per_byte=1e-9, per_mac=1e-10, per_kernel=1e-5, per_call=2e-6)
    path = Machine("2026-01-31", "a processor", "2.13", compute, {"select": 0.1}).write(tmp_path / "a" / "machine.json")
    found = Machine.read(path)
    assert found is not None and found.compute.per_call == 2e-6 and found.errors == {"select": 0.1}
    assert found.compute.name == "a file" and "a processor" in found.compute.source
    assert [p.name for p in path.parent.iterdir()] == ["machine.json"]


@pytest.mark.parametrize("spoilt", ["", "[]", '{"format": "mpcc machine 0"}', "negative"])
def test_what_cannot_be_read_is_as_if_absent(tmp_path: Path, spoilt: str) -> None:
    path = Machine("d", "p", "t", Compute("x")).write(tmp_path / "machine.json")
    if spoilt == "negative":
        document = json.loads(path.read_text())
        document["seconds"]["per_call"] = -1
        spoilt = json.dumps(document)
    path.write_text(spoilt)
    assert Machine.read(path) is None
    assert Machine.read(tmp_path / "absent.json") is None


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Machine.file() == tmp_path / "mpcc" / "machine.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert Machine.file() == Path.home() / ".cache" / "mpcc" / "machine.json"


def test_a_machine_is_asked_for_by_name_or_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Machine.kept() is None and Machine.named("reference") is None
    with pytest.raises(UsageError, match="invalid machine 'absent.json'"):
        Machine.named("absent.json")
    here = Machine.here(Compute("x"))
    found = Machine.read(here.write())
    other = Machine("d", "another", "t", Compute("x", per_call=1.0)).write(tmp_path / "other.json")
    assert Machine.kept() == Machine.read() and found == replace(here, compute=found.compute) and not found.outdated
    named = [found and (found.processor, found.compute.name) for found in map(Machine.named, (Machine.file(), other))]
    assert named == [(here.processor, "a file"), ("another", "a file")]
    assert Machine.named("reference") is None


@pytest.mark.parametrize("field", CONDITIONS)
def test_figures_hold_where_nothing_changed(field: str) -> None:
    here = Machine.here(Compute("x"))
    value = getattr(here, field)
    changed: Any = {field: value + 1 if isinstance(value, int) else f"another than {value}"}
    assert CONDITIONS[field] in replace(here, **changed).outdated and not here.outdated


def test_a_file_of_an_earlier_version_is_read_but_holds_nowhere(tmp_path: Path) -> None:
    document = Machine.here(Compute("x", per_call=1.0)).document()
    for name in ("cores", "threads", "engine", "stale", "again"):
        del document[name]
    (tmp_path / "old.json").write_text(json.dumps(document))
    found = Machine.named(tmp_path / "old.json")
    assert found is not None and found.compute.per_call == 1.0 and "number of cores" in found.outdated


def test_what_a_run_contradicts_is_stale_once_a_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def kept(**fields: Any) -> Machine:
        replace(Machine.here(Compute("x", per_call=1.0)), **fields).write()
        return Machine.read()  # type: ignore[return-value]

    first = kept()
    assert first.contradicted() and Machine.kept() is None
    stale = Machine.read()
    assert stale is not None and stale.compute == first.compute and "a run disagreed" in stale.outdated
    assert not kept(again=True).contradicted() and Machine.kept() is not None
    assert kept(again=True, date="2001-01-31").contradicted()
    assert not kept(alone=True).contradicted()
    Machine.here(Compute("x", per_call=2.0)).write()  # another process has measured since
    assert not first.contradicted() and Machine.kept() is not None
    Machine.file().unlink()
    assert not first.contradicted() and not Machine.file().exists()


def test_equal_constants_have_equal_fingerprints() -> None:
    one, same, other = Compute("x", per_call=1.0), Compute("y", per_call=1.0, name="a file"), Compute("x", per_call=2.0)
    assert one.note["fingerprint"] == same.note["fingerprint"] != other.note["fingerprint"]
