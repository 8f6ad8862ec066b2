"""mpcc/files.py: whole or not at all, the right mode, and nothing planted beside a target is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpcc.files import cache_folder, replacing, replacing_folder, write


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("content", ["text \u00e9", b"bytes", memoryview(b"view")])
def test_a_file_is_written_and_nothing_is_left_beside_it(tmp_path: Path, content: str | bytes | memoryview) -> None:
    write(tmp_path / "x", content)
    assert (tmp_path / "x").read_bytes() == (content.encode() if isinstance(content, str) else bytes(content))
    assert names(tmp_path) == {"x"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_what_is_interrupted_leaves_the_old_file(tmp_path: Path, error: BaseException | type[BaseException]) -> None:
    write(tmp_path / "x", "old")
    with pytest.raises(BaseException, match="disk full|^$"), replacing(tmp_path / "x") as part:
        part.write_text("half")
        raise error
    assert (tmp_path / "x").read_text() == "old" and names(tmp_path) == {"x"}


def test_private_is_for_this_user_whatever_a_library_and_an_older_file_say(tmp_path: Path) -> None:
    (tmp_path / "key").touch(0o666)
    (tmp_path / "key").chmod(0o666)
    with replacing(tmp_path / "key", private=True) as part:
        part.touch()
        part.chmod(0o666)
        assert part.parent.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_the_rest_gets_what_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "x", "")
        with replacing_folder(tmp_path / "folder") as new:
            write(new / "y", "")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("x", "folder", "folder/y")]
    assert modes == [0o640, 0o750, 0o640]


def test_a_link_at_the_target_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("untouched")
    (tmp_path / "x").symlink_to(tmp_path / "theirs")
    write(tmp_path / "x", "ours", private=True)
    assert (tmp_path / "theirs").read_text() == "untouched"
    assert not (tmp_path / "x").is_symlink() and (tmp_path / "x").read_text() == "ours"


def test_a_link_that_a_library_leaves_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("untouched")
    (tmp_path / "theirs").chmod(0o644)
    with pytest.raises(OSError), replacing(tmp_path / "x", private=True) as part:
        part.symlink_to(tmp_path / "theirs")
    assert names(tmp_path) == {"theirs"} and (tmp_path / "theirs").stat().st_mode & 0o777 == 0o644


def test_without_overwriting_the_first_of_two_wins(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), replacing(tmp_path / "x", overwrite=False) as part:
        part.write_text("second")
        write(tmp_path / "x", "first")
    assert (tmp_path / "x").read_text() == "first" and names(tmp_path) == {"x"}


def test_what_is_written_beside_it_comes_along(tmp_path: Path) -> None:
    with replacing(tmp_path / "model.onnx", private=True) as part:
        part.write_text("graph")
        (part.parent / "model.onnx.data").write_text("weights")
    assert names(tmp_path) == {"model.onnx", "model.onnx.data"}
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in names(tmp_path)} == {0o600}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write(tmp_path / "absent" / "x", "")
    assert caught.value.filename == str(tmp_path / "absent")


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "old").touch()
    with replacing_folder(tmp_path / "place") as new:
        write(new / "new", "")
        assert names(tmp_path / "place") == {"old"}
    assert names(tmp_path / "place") == {"new"} and names(tmp_path) == {"place"}


def test_a_relative_cache_folder_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the XDG base directory specification demands."""
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "mpcc"
