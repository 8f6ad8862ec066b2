"""Each command on a small model: what it prints, what it writes, its JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcc import security

Mpcc = Callable[..., Any]
COMMAND = [sys.executable, "-c", "from mpcc.cli import main; main()"]


def test_help_imports_nothing_heavy() -> None:
    """What takes long to import would make `mpcc --help` slow."""
    code = "import sys, mpcc.cli; print([m for m in ('torch', 'numpy', 'onnx', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_has_the_commands_and_examples(mpcc: Mpcc) -> None:
    text = mpcc("--help").out
    lists = ("passes", "protocols", "networks")
    for command in ("optimize", "run", "profile", "count", "verify", *lists, "benchmark", "keys", "doctor"):
        assert command in text
        shown = mpcc(command, "--help")
        assert shown.code == 0 and shown.out == mpcc(command, "-h").out
        assert "--json" in shown.out and "<bool>" not in shown.out
        assert "Example" in shown.out or command in ("networks",)


def test_the_version_and_python_dash_m(mpcc: Mpcc) -> None:
    from importlib.metadata import version

    from mpcc.runtime.native import library

    lines = mpcc("--version").out.splitlines()
    assert lines[0] == f"mpcc {version('mpcc')}" and f"spline gates: {library.description()}" in lines
    assert f"torch {version('torch')}" in lines[1] and f"CrypTen: {version('crypten')}" in lines
    done = subprocess.run([sys.executable, "-m", "mpcc", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == lines


def test_optimize_as_json(mpcc: Mpcc, model: Path, calibration: Path, tmp_path: Path) -> None:
    answer = mpcc("optimize", model, "--calibration", calibration, "--budget", "2s", "--network", "wan", "--json")
    found = json.loads(answer.out)
    assert (tmp_path / found["bundle"] / "manifest.json").exists()
    assert found["calibrated"] is True
    assert found["estimate"]["online"]["rounds"] < found["baseline"]["online"]["rounds"]
    assert found["estimate"]["network"] == "wan"
    assert "semi-honest" in found["security"]
    assert found["hidden"] == {"answers": security.ENDLESS, "asked": 16_384, "warning": ""}  # comparisons have no steps
    assert security.hides(security.ENDLESS) in found["security"]


def test_optimize_prints_before_and_after(mpcc: Mpcc, model: Path, calibration: Path) -> None:
    answer = mpcc("optimize", model, "--calibration", calibration)
    for word in ("relu 1", "11 -> 6", "same top-1", "Who can see what", "dealer", "Written: tiny.mpcc", "mpcc run"):
        assert word in answer.out
    assert "Accuracy unknown" not in answer.out and security.hides(security.ENDLESS) in answer.out


SMOOTH = """
import torch


def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3)).eval(), (torch.zeros(1, 4),)
"""


def test_answers_that_the_noise_cannot_hide_are_told(mpcc: Mpcc, calibration: Path, tmp_path: Path) -> None:
    """On the screen with what would be enough, in the bundle's page, and by `mpcc verify`."""
    (tmp_path / "smooth.py").write_text(SMOOTH)
    given = ("optimize", "smooth.py:make", "--calibration", calibration, "-o", "smooth.mpcc", "--answers")
    few = mpcc(*given, "2000000")
    assert few.code == 0, few.err
    found = re.search(r"WARNING: noise hides roundings in ([\d,]+) answers, not 2,000,000; --noise ([\d.]+) would", few.out)
    assert found is not None, few.out
    said = f"in {found[1]} answers to one client"
    assert said in (tmp_path / "smooth.mpcc" / "report.html").read_text()
    assert said in mpcc("verify", "smooth.mpcc", "--count", "1").err
    many = mpcc(*given, "2000000", "--noise", found[2])
    assert "WARNING" not in many.out and "answers to one client" in many.out
    assert mpcc(*given, "9", "--noise", "nan").code == mpcc(*given, "0").code == 2


def test_optimize_compiles_a_given_plan(mpcc: Mpcc, model: Path, bundle: Path, tmp_path: Path) -> None:
    answer = mpcc("optimize", model, "--plan", bundle / "plan.json", "-o", "planned")
    assert answer.code == 0
    sites = [json.loads((folder / "plan.json").read_text())["sites"] for folder in (bundle, tmp_path / "planned")]
    assert sites[0] == sites[1]


def test_a_bundle_can_be_optimized_again(mpcc: Mpcc, bundle: Path, tmp_path: Path) -> None:
    assert mpcc("optimize", bundle, "-o", "again").code == 0
    assert (tmp_path / "again" / "manifest.json").exists()


def test_a_model_from_the_users_code(mpcc: Mpcc, tmp_path: Path) -> None:
    """file.py:function; the module alone needs --input-shape."""
    text = "import torch\ndef make():\n    return torch.nn.Linear(4, 3), (torch.zeros(1, 4),)\n"
    (tmp_path / "mine.py").write_text(text + "def bare():\n    return torch.nn.Linear(4, 3)\n")
    assert mpcc("count", "mine.py:make").code == 0
    assert mpcc("count", "mine:make").code == 0
    assert mpcc("count", "mine.py:bare", "--input-shape", "input=1,4").code == 0
    assert mpcc("count", "mine.py:bare").code == 2


def test_a_torch_export_program(mpcc: Mpcc, tmp_path: Path) -> None:
    """x.pt2, as torch.export.save writes it."""
    import torch

    program = torch.export.export(torch.nn.Linear(4, 3), (torch.zeros(1, 4),))
    torch.export.save(program, tmp_path / "linear.pt2")
    assert mpcc("count", "linear.pt2").code == 0


def test_ctrl_c_is_130_and_leaves_nothing(
    mpcc: Mpcc, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mpcc.bundle.write.write_weights", stop)
    answer = mpcc("optimize", model)
    assert answer.code == 130 and "interrupted" in answer.err and "Traceback" not in answer.err, answer
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_real_command(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, and a polite kill. A shell starts what runs in the background with Ctrl-C ignored: tests may run there."""
    text = "import pathlib, time\ndef make():\n    pathlib.Path('started').touch()\n    time.sleep(60)\n"
    (tmp_path / "mine.py").write_text(text)
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from mpcc.cli import main; main()"
    command = [sys.executable, "-c", heard, "optimize", "mine.py:make"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.startswith("interrupted")
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.py", "started", "__pycache__"}


def test_a_bug_is_told_as_a_bug(mpcc: Mpcc, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("mpcc.pipeline.count", fail)
    answer = mpcc("count", model)
    assert answer.code == 70 and "bug in mpcc" in answer.err


@pytest.mark.slow
def test_run_writes_the_output(mpcc: Mpcc, bundle: Path, image: Path, tmp_path: Path) -> None:
    """The private answer is the one of the emulation; measured is what was predicted."""
    import torch

    from mpcc.pipeline import load
    from mpcc.program.program import FLOOD_REACH

    answer = mpcc("run", bundle, "--input", image, "--output", "y.npy", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert all(found[key] == found["predicted"][key] for key in ("rounds", "bytes"))
    written = np.load(tmp_path / "y.npy", allow_pickle=False)
    np.testing.assert_array_equal(written, np.array(found["outputs"][0], np.float32))
    executable = load(bundle)
    emulated = executable.emulate(torch.from_numpy(np.load(image)))
    np.testing.assert_allclose(written, emulated, atol=1e-3 + FLOOD_REACH * executable.program.flood[0])


@pytest.mark.slow
def test_more_rows_are_more_inferences(mpcc: Mpcc, bundle: Path, tmp_path: Path) -> None:
    """In one session, the answers behind each other."""
    np.save(tmp_path / "x.npy", np.zeros((3, 4), np.float32))
    answer = mpcc("run", bundle, "--input", "x.npy", "--output", "y.npy")
    assert answer.code == 0 and "each of 3 inferences" in answer.out
    assert np.load(tmp_path / "y.npy").shape == (3, 3)


@pytest.mark.slow
def test_run_says_what_the_insecure_dealer_means(mpcc: Mpcc, bundle: Path, image: Path) -> None:
    answer = mpcc("run", bundle, "--input", image, "--insecure-dealer")
    assert answer.code == 0, answer.err
    assert "insecure dealer" in answer.err and "NOT PRIVATE" in answer.out and "every mask" in answer.out


def test_verify(mpcc: Mpcc, bundle: Path, calibration: Path) -> None:
    """Four differences, a row for each site; exit 1 when --tolerance is exceeded."""
    answer = mpcc("verify", bundle, "--calibration", calibration, "--count", "2", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)["differences"]
    assert [one["inputs"] for one in found] == [2, 2, 2, 2]
    assert all(one["largest"] < 1e-3 and one["same_top1"] == 1 for one in found)
    document = json.loads(answer.out)
    assert document["noise"]["hidden"] == security.ENDLESS
    assert [one["site"] for one in document["sites"]] == ["act.relu"] and document["sites"][0]["own"] == 0
    assert document["sites"][0]["fixed"] < 1e-3 and document["trusted"] and document["outside"] == []
    printed = mpcc("verify", bundle, "--count", "1", "--ranges")
    assert "Where errors enter" in printed.out and "synthetic" in printed.err + printed.out
    failed = mpcc("verify", bundle, "--calibration", calibration, "--count", "1", "--tolerance", "1e-9")
    assert failed.code == 1 and "largest difference" in failed.err


def test_count_write_then_check(mpcc: Mpcc, bundle: Path, tmp_path: Path) -> None:
    assert mpcc("count", bundle, "--write", "counts.json").code == 0
    assert mpcc("count", bundle, "--check", "counts.json").code == 0
    counts = json.loads((tmp_path / "counts.json").read_text())
    (tmp_path / "former.json").write_text(json.dumps(counts | {"protocol": "crypten"}))
    assert mpcc("count", bundle, "--check", "former.json").code == 0
    counts["rounds"] -= 1
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    risen = mpcc("count", bundle, "--check", "counts.json")
    assert risen.code == 1 and "Cost regressions" in risen.out and "rounds 5 -> 6" in risen.err and "--write" in risen.err
    assert mpcc("count", bundle, "--check", "counts.json", "--tolerance", "0.5").code == 0
    assert mpcc("count", bundle, "--check", "none.json").code == 2
    assert mpcc("count", bundle, "--check", "counts.json", "--write", "counts.json").code == 2


def test_profile_puts_protocols_side_by_side(mpcc: Mpcc, model: Path) -> None:
    names = ("mpcc", "crypten-stock", "cheetah")
    options = [part for name in names for part in ("--protocol", name)]
    answer = mpcc("profile", model, *options, "--network", "lan", "--network", "wan", "--json")
    found = json.loads(answer.out)
    assert [(one["protocol"], one["network"]) for one in found] == [(n, w) for n in names for w in ("lan", "wan")]
    text = mpcc("profile", model, *options).out
    assert "Side by side" in text and "act.relu" in text
    assert mpcc("profile", model, "--by", "colour").code == 2


def test_profile_of_a_bundle_is_what_was_predicted(mpcc: Mpcc, bundle: Path) -> None:
    from mpcc.pipeline import load

    (found,) = json.loads(mpcc("profile", bundle, "--json").out)
    cost = load(bundle).program.cost
    assert (found["online"]["rounds"], found["online"]["bytes"]) == (cost.rounds, cost.bytes)


@pytest.mark.parametrize(
    ("command", "word"), [("passes", "fold_norm_affine"), ("protocols", "cheetah"), ("networks", "wan")]
)
def test_the_lists(mpcc: Mpcc, command: str, word: str) -> None:
    """Each has its sources, as a table and as JSON."""
    assert word in mpcc(command).out
    found = json.loads(mpcc(command, "--json").out)
    rows = found["passes"] + found["approximations"] if command == "passes" else found
    assert word in [row["name"] for row in rows]
    assert all(row["source"] for row in rows)


def test_keys(mpcc: Mpcc, tmp_path: Path) -> None:
    """Three folders, private keys for their owner only, never overwritten; TLS takes them."""
    from mpcc.runtime.net.identity import Identity

    assert mpcc("keys", "keys").code == 0
    for role in ("server", "client", "dealer"):
        place = tmp_path / "keys" / role
        assert (place / "key.pem").stat().st_mode & 0o077 == 0
        Identity(place / "certificate.pem", place / "key.pem", place / "authority.pem").context(server=True)
    again = mpcc("keys", "keys")
    assert again.code == 2 and "never overwritten" in again.err


@pytest.mark.slow
def test_outputs_that_are_not_to_be_trusted_are_a_failure(mpcc: Mpcc, tmp_path: Path) -> None:
    """A model whose approximation holds on a range, and inputs ten times as large as those of calibration."""
    text = "import torch\ndef make():\n    torch.manual_seed(0)\n    return torch.nn.Sequential(torch.nn.Linear(4, 8), "
    (tmp_path / "mine.py").write_text(f"{text}torch.nn.LayerNorm(8), torch.nn.Linear(8, 3)), (torch.zeros(1, 4),)\n")
    inputs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "large.npy", 10 * inputs)
    assert mpcc("optimize", "mine.py:make", "--calibration", "inputs.npy").code == 0
    answer = mpcc("verify", "make.mpcc", "--calibration", "large.npy", "--count", "1")
    assert answer.code == 1 and "NOT TRUSTWORTHY" in answer.err and "not to be trusted" in answer.err


def test_count_diff(mpcc: Mpcc, model: Path, bundle: Path, tmp_path: Path) -> None:
    """Between a model and a bundle nothing; against other counts, in both directions, as table, Markdown and JSON."""
    assert mpcc("count", bundle, "--write", "counts.json").code == 0
    counts = json.loads((tmp_path / "counts.json").read_text())
    counts["rounds"] += 2
    counts["primitives"]["extra"] = 1
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    same = mpcc("count", bundle, "--diff", bundle)
    assert same.code == 0 and "rounds" in same.out and "act.relu" not in same.out
    text = mpcc("count", bundle, "--diff", "counts.json", "--markdown").out
    assert "| total | `online` | rounds | 8 | 6 | -25.0% |" in text and "| primitive | `extra` | calls | 1 | 0 | gone |" in text
    assert json.loads(mpcc("count", bundle, "--diff", "counts.json", "--json").out)[0]["before"] == 8
    assert mpcc("count", bundle, "--markdown").code == mpcc("count", bundle, "--diff", "none.json").code == 2
