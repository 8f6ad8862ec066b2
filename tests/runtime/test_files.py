"""Material in files: made beforehand, bound to one program, one model and one session, used once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mpcc.errors import BundleError, MpccError, PartyError, SecurityError, UsageError
from mpcc.runtime.dealer.files import FromFile, deal_to_files
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import SHAPE, program
from tests.runtime.test_standalone import Trio

COUNT = 2


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where used sessions are noted."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Path]:
    return deal_to_files(program("mixed"), "v1", tmp_path / "dealt", COUNT)


def both(files: dict[str, Path], inputs: int, name: str = "mixed") -> dict[str, object]:
    trio = Trio()
    for role in ("server", "client"):
        given = [(torch.full(SHAPE, float(i)),) for i in range(inputs)] if role == "client" else ()
        trio.start(role, program(name), material=files[role], inputs=given)
    return trio.join()


def test_no_dealer_is_needed_later(made: dict[str, Path]) -> None:
    ended = both(made, COUNT)
    emulate = Emulator(program("mixed"))
    assert ended["server"] == [] and isinstance(ended["client"], list)
    for number, outcome in enumerate(ended["client"]):
        assert (outcome.outputs[0] - emulate(torch.full(SHAPE, float(number)))[0]).abs().max() < 0.01
        assert outcome.bytes == program("mixed").cost.bytes
    assert all(path.stat().st_mode & 0o77 == 0 for path in made.values())
    size = made["client"].stat().st_size
    assert 0 < size - COUNT * program("mixed").cost.dealer_bytes - program("mixed").cost.setup_dealer_bytes < 500


def test_a_second_use_is_refused(made: dict[str, Path]) -> None:
    both(made, 1)
    for error in both(made, 1).values():
        assert isinstance(error, SecurityError) and "used already" in str(error)


def test_copies_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    """Both parties' files copied before their use, and replayed from the copies."""
    copies = {role: Path(shutil.copy(path, tmp_path / path.name)) for role, path in made.items()}
    both(made, 1)
    for error in both(copies, 1).values():
        assert isinstance(error, SecurityError) and "used already" in str(error)


def test_a_copy_on_another_machine_is_refused_by_the_other_party(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copy(made["client"], tmp_path / "client.material"))
    both(made, 1)
    shutil.move(tmp_path / "state", tmp_path / "of the server")
    made["server"].with_name("server.material.used").unlink()  # the mark beside the file, but not the note, is lost
    (tmp_path / "state" / "mpcc").mkdir(parents=True)
    shutil.copytree(
        tmp_path / "of the server" / "mpcc" / "used", tmp_path / "state" / "mpcc" / "used",
        ignore=lambda _, names: [name for name in names if name.endswith(".1")],
    )  # fmt: skip
    ended = both(made | {"client": copy}, 1)
    assert isinstance(ended["server"], SecurityError) and isinstance(ended["client"], MpccError)


def test_the_mark_is_there_before_a_mask_is_used_and_after_a_crash(made: dict[str, Path]) -> None:
    """A process that is killed right after its first mask leaves the material used."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mpcc.runtime.dealer import material\n"
        "from mpcc.runtime.dealer.files import FromFile\n"
        "from tests.models.programs import program\n"
        "def expand(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "material.Recipe.expand = expand\n"
        "FromFile(program('mixed'), 1, Path(sys.argv[1]), 'v1').setup()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(made["client"])],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=60,
    )
    assert run.returncode == -9
    with pytest.raises(SecurityError, match="used already"):
        FromFile(program("mixed"), 1, made["client"], "v1")


def test_where_no_mark_can_be_left_nothing_is_used(made: dict[str, Path], state: Path) -> None:
    state.write_text("in the way")
    material = FromFile(program("mixed"), 1, made["client"], "v1")
    with pytest.raises(SecurityError, match="no mark of use can be left"):
        material.setup()


def test_used_up(made: dict[str, Path]) -> None:
    ended = both(made, COUNT + 1)
    assert isinstance(ended["client"], PartyError) and "for 2 inferences, all are used" in str(ended["client"])


def test_files_of_two_sessions_do_not_go_together(made: dict[str, Path], tmp_path: Path) -> None:
    other = deal_to_files(program("mixed"), "v1", tmp_path / "again", COUNT)
    for error in both(made | {"client": other["client"]}, 1).values():
        assert isinstance(error, MpccError) and "session id" in str(error)
    assert not made["server"].with_name("server.material.used").exists()


def test_of_another_program_model_or_role(made: dict[str, Path]) -> None:
    for name, party, version, said in (
        ("relu", 1, "v1", "program"),
        ("mixed", 1, "v2", "model: v1, not v2"),
        ("mixed", 0, "v1", "role: client, not server"),
    ):
        with pytest.raises(SecurityError, match=said):
            FromFile(program(name), party, made["client"], version)


def test_damaged(made: dict[str, Path], tmp_path: Path) -> None:
    os.truncate(made["client"], made["client"].stat().st_size - 8)
    with pytest.raises(BundleError, match="damaged"):
        FromFile(program("mixed"), 1, made["client"], "v1")
    (tmp_path / "no").write_bytes(b"\x00" * 9999)
    for path in (tmp_path / "no", tmp_path / "nowhere"):
        with pytest.raises(BundleError, match="no material"):
            FromFile(program("mixed"), 1, path, "v1")


def test_never_overwritten(made: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="never overwritten"):
        deal_to_files(program("mixed"), "v1", made["client"].parent, 1)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """The file size limit of a process stands for the full disk."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from mpcc.runtime.dealer.files import deal_to_files\n"
        "from mpcc.errors import PartyError\n"
        "from tests.models.programs import program\n"
        "made = program('mixed')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n    deal_to_files(made, 'v1', Path(sys.argv[1]), 5)\n"
        "except PartyError as error:\n    print(error)\n"
    )
    folder = tmp_path / "full"
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "client.material: the material cannot be written: File too large" in run.stdout, run.stderr
    assert [path.name for path in folder.iterdir()] == []
