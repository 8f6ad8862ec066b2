"""Material in files: made beforehand, bound to one program, one model and one session, used once."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mpcc.errors import BundleError, MpccError, PartyError, SecurityError, UsageError
from mpcc.ir import dealer
from mpcc.runtime.dealer import files, used
from mpcc.runtime.dealer.files import FromFile, deal_to_files
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import SHAPE, dealt_bytes, program
from tests.runtime.test_standalone import Trio

COUNT = 2


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home in which the use of material is noted: not that of who runs the tests."""
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(used, "home", lambda: tmp_path / "home")
    return tmp_path / "home" / used.PLACE


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
    for party, role in enumerate(("server", "client")):
        assert 0 < made[role].stat().st_size - COUNT * dealt_bytes(program("mixed"), party) < 500


def test_what_both_parties_get_is_in_both_files(tmp_path: Path) -> None:
    """Keys of trees: the same in both files, each block with its tag."""
    made = program("curve")
    paths = deal_to_files(made, "v1", tmp_path, COUNT)
    found = []
    for party, role in enumerate(("server", "client")):
        material = FromFile(made, party, paths[role], "v1")
        material.setup()
        found.append([material.inference(number) for number in range(COUNT)])
        material.close()
    sources = {node.name: node.target for node in made.dealer.graph.nodes}
    keys = [share for share, source in made.correlations if sources[source] is dealer.tree]
    assert keys and all(torch.equal(a[key], b[key]) for a, b in zip(*found, strict=True) for key in keys)
    assert not torch.equal(found[0][0][keys[0]], found[0][1][keys[0]])


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


def test_no_environment_variable_makes_a_copy_serve_again(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = {role: Path(shutil.copy(path, tmp_path / path.name)) for role, path in made.items()}
    both(made, 1)
    for name in ("HOME", "XDG_STATE_HOME", "TMPDIR", "USER"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    for error in both(copies, 1).values():
        assert isinstance(error, SecurityError) and "used already" in str(error)


def test_the_home_is_that_of_the_user_database(tmp_path: Path) -> None:
    code = "from mpcc.runtime.dealer.used import note; print(note('s', 0))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert run.stdout.strip() == f"{home}/.local/state/mpcc/used/s.0"


def test_a_copy_on_another_machine_is_refused_by_the_other_party(made: dict[str, Path], tmp_path: Path, state: Path) -> None:
    """The client's machine has lost its notes and has a copy; the server's has neither."""
    copy = Path(shutil.copy(made["client"], tmp_path / "client.material"))
    both(made, 1)
    next(state.glob("*.1")).unlink()
    ended = both(made | {"client": copy}, 1)
    assert isinstance(ended["server"], SecurityError) and isinstance(ended["client"], MpccError)


def test_the_file_itself_cannot_be_used_again(made: dict[str, Path], state: Path) -> None:
    """Its seed is gone, even where all notes are lost."""
    seed = made["server"].read_bytes().partition(b"\n")[2][:32]
    both(made, 1)
    shutil.rmtree(state)
    assert seed not in made["server"].read_bytes()
    for error in both(made, 1).values():
        assert isinstance(error, SecurityError) and "used already" in str(error)


def test_two_processes_cannot_open_one_file(made: dict[str, Path]) -> None:
    first = FromFile(program("mixed"), 1, made["client"], "v1")
    with pytest.raises(SecurityError, match="in use by another process"):
        FromFile(program("mixed"), 1, made["client"], "v1")
    first.close()
    FromFile(program("mixed"), 1, made["client"], "v1").close()


@pytest.mark.parametrize("role", ["server", "client"])
def test_every_flipped_bit_is_refused(made: dict[str, Path], state: Path, role: str) -> None:
    """In the header, the seed, a tag, a block: before anything of it is used."""
    data, party = made[role].read_bytes(), ("server", "client").index(role)
    places = {*range(0, 400, 7), *range(400, len(data), max(1, len(data) // 60)), len(data) - 1}
    for place in sorted(place for place in places if place < len(data)):
        shutil.rmtree(state, ignore_errors=True)
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        made[role].write_bytes(changed)
        with pytest.raises((BundleError, SecurityError), match="damaged|not a material file|another use") as caught:
            material = FromFile(program("mixed"), party, made[role], "v1")
            try:
                material.setup()
                for number in range(COUNT):
                    material.inference(number)
            finally:
                material.close()
        if role == "client" and place > 1000:
            assert "block" in str(caught.value)


def test_swapped_inferences_are_refused(made: dict[str, Path]) -> None:
    """Each block is whole, but not in its place."""
    data = made["client"].read_bytes()
    size = dealt_bytes(program("mixed"), 1) + 32
    rest, first, second = data[: -2 * size], data[-2 * size : -size], data[-size:]
    made["client"].write_bytes(rest + second + first)
    material = FromFile(program("mixed"), 1, made["client"], "v1")
    material.setup()
    with pytest.raises(BundleError, match="block 1 is not what the dealer wrote"):
        material.inference(0)


def test_the_mark_is_there_before_a_mask_is_used_and_after_a_crash(made: dict[str, Path]) -> None:
    """A process that is killed right after its first mask leaves the material used."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mpcc.runtime.dealer import material, used\n"
        "from mpcc.runtime.dealer.files import FromFile\n"
        "from tests.models.programs import program\n"
        "def expand(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "material.Recipe.expand = expand\n"
        "used.home = lambda: Path(sys.argv[2])\n"
        "FromFile(program('mixed'), 1, Path(sys.argv[1]), 'v1').setup()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(made["client"]), str(used.home())],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=60,
    )
    assert run.returncode == -9
    with pytest.raises(SecurityError, match="used already"):
        FromFile(program("mixed"), 1, made["client"], "v1")


def test_where_no_mark_can_be_left_nothing_is_used(made: dict[str, Path], state: Path) -> None:
    (state / "..").resolve().mkdir(parents=True)
    state.write_text("in the way")
    material = FromFile(program("mixed"), 1, made["client"], "v1")
    with pytest.raises(SecurityError, match="the use of this material cannot be noted"):
        material.setup()


def test_used_up(made: dict[str, Path]) -> None:
    ended = both(made, COUNT + 1)
    assert isinstance(ended["client"], PartyError) and "for 2 inferences, all are used" in str(ended["client"])


def test_files_of_two_sessions_do_not_go_together(made: dict[str, Path], tmp_path: Path) -> None:
    other = deal_to_files(program("mixed"), "v1", tmp_path / "again", COUNT)
    for error in both(made | {"client": other["client"]}, 1).values():
        assert isinstance(error, MpccError) and "session id" in str(error)
    assert not used.was_used(json.loads(made["server"].read_bytes().partition(b"\n")[0])["session"], 0)


def test_of_another_program_model_or_role(made: dict[str, Path]) -> None:
    for name, party, version, said in (
        ("relu", 1, "v1", "program"),
        ("mixed", 1, "v2", "model: v1, not v2"),
        ("mixed", 0, "v1", "role: client, not server"),
    ):
        with pytest.raises(SecurityError, match=said):
            FromFile(program(name), party, made["client"], version)


def test_what_is_no_material(made: dict[str, Path], tmp_path: Path) -> None:
    os.truncate(made["client"], made["client"].stat().st_size - 8)
    with pytest.raises(BundleError, match="damaged"):
        FromFile(program("mixed"), 1, made["client"], "v1")
    (tmp_path / "zeros").write_bytes(b"\x00" * 9999)
    (tmp_path / "deep").write_bytes(b"[" * 3000 + b"\n" + bytes(9999))
    (tmp_path / "older").write_bytes(b'{"format": "mpcc material 1", "seed": "00"}\n' + bytes(99))
    os.mkfifo(tmp_path / "fifo")
    for name in ("zeros", "deep", "older", "fifo", "nowhere", "home"):
        with pytest.raises(BundleError, match="cannot be read|not a material file"):
            FromFile(program("mixed"), 1, tmp_path / name, "v1")


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = deal_to_files(program("mixed"), "v1", tmp_path / "dealt", 1)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in made.values()] == [0o600, 0o600]


def test_links_beside_the_files_are_not_followed(tmp_path: Path) -> None:
    """Under the fixed name of an unfinished file that earlier versions wrote to."""
    (tmp_path / "dealt").mkdir()
    (tmp_path / "dealt" / "client.material.part").symlink_to(tmp_path / "target")
    deal_to_files(program("mixed"), "v1", tmp_path / "dealt", 1)
    assert not (tmp_path / "target").exists()


def test_both_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second cannot be put in its place."""
    folder, link = tmp_path / "dealt", os.link

    def fail(source: Path, target: Path) -> None:
        if any(folder.glob("*.material")):
            raise OSError(28, "No space left on device")
        link(source, target)

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(PartyError, match="No space left"):
        deal_to_files(program("mixed"), "v1", folder, 1)
    assert list(folder.iterdir()) == []


def test_a_planted_result_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dealt").mkdir()
    (tmp_path / "dealt" / "server.material").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="never overwritten"):
        deal_to_files(program("mixed"), "v1", tmp_path / "dealt", 1)


def test_two_dealers_at_once_refuse_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is in the middle of its work; the pair that is left is its own."""
    folder, refused = tmp_path / "dealt", list[str]()
    send = files.send_dealt

    def and_again(*arguments: object, **options: object) -> None:
        with pytest.raises(UsageError) as caught:
            deal_to_files(program("mixed"), "v1", folder, 1)
        refused.append(caught.value.what)
        send(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "send_dealt", and_again)
    made = deal_to_files(program("mixed"), "v1", folder, 1)
    assert set(refused) == {"another dealer is writing into this folder"}
    monkeypatch.undo()
    sessions = {json.loads(path.read_bytes().partition(b"\n")[0])["session"] for path in made.values()}
    assert len(sessions) == 1 and sorted(path.name for path in folder.iterdir()) == ["client.material", "server.material"]


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
    assert "full: the material cannot be written: File too large" in run.stdout, run.stderr
    assert [path.name for path in folder.iterdir()] == []
