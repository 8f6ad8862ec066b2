"""NumPy files from other hands: read without running or reserving anything, numbers that a private program can hold."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mpcc.calibration import load_calibration
from mpcc.calibration.arrays import LARGEST_INPUT, as_input, read_arrays
from mpcc.errors import MpccError, RangeError, ShapeError, UsageError


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    padded = text.encode() + b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + len(padded).to_bytes(2 if version[:1] == b"\x01" else 4, "little") + padded


def described(shape: str, kind: str = "'<f4'") -> bytes:
    return header(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}")


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "f2", "u1", "i8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_writes_is_read(dtype: str, order: str, tmp_path: Path) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4) % 2, dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", array)
    np.savez_compressed(tmp_path / "x.npz", a=array, b=array[:1])
    assert np.array_equal(read_arrays(tmp_path / "x.npy")[""], array)
    found = read_arrays(tmp_path / "x.npz")
    assert list(found) == ["a", "b"] and np.array_equal(found["a"], array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04garbage",
        described("(1000000000000,)"),
        described("(1000000,)") + b"\0" * 16,
        described("(-1,)"),
        described("(True,)"),
        described("(2, 3", "'<f4'"),
        described("(2,)", "'|O'") + b"\x80\x04.",
        described("(2,)", "[('a', '<f4')]"),
        described("(1,)", "'|V1000000000'"),
        header("(" * 5000),
        header("__import__('os').system('true')"),
        header("{}", b"\x09\x00"),
        b"\x93NUMPY\x01\x00\xff\xff" + b"\xff" * 70000,
    ],
)
def test_files_that_are_no_arrays(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(UsageError, match="x.npy"):
        read_arrays(tmp_path / "x.npy")


def test_an_archive_that_grows_when_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", described(f"({1 << 29},)") + b"\0" * 10**6)
    with pytest.raises(UsageError, match="536,870,912 numbers, more than"):
        read_arrays(tmp_path / "x.npz")


def test_a_fifo_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(UsageError, match="not a regular file"):
        load_calibration(tmp_path / "x.npy", [(1, 4)])


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.array([1.0, np.nan]), RangeError, "1 of its 2 numbers are infinite or NaN"),
        (np.array([np.inf, 1.0]), RangeError, "infinite or NaN"),
        (np.array([1e300]), RangeError, "infinite or NaN"),
        (np.array([1e38]), RangeError, "beyond the fixed point"),
        (np.array([2**46]), RangeError, "beyond the fixed point"),
        (np.zeros((0, 4)), ShapeError, "no numbers"),
        (np.array(["a"]), UsageError, "holds no numbers"),
    ],
)
def test_numbers_that_no_private_program_holds(array: np.ndarray, error: type[MpccError], message: str) -> None:
    with pytest.raises(error, match=message):
        as_input(array, "x.npy")
    with pytest.raises(error, match=message):
        load_calibration(array, [(1, 4)])


def test_the_largest_input_is_read() -> None:
    assert as_input(np.array([LARGEST_INPUT]), "x").item() == LARGEST_INPUT




SHAPES = [(1, 4, 16), (1, 16)]


def test_several_inputs_by_name_by_shape_and_by_source(tmp_path: Path) -> None:
    x, extra = np.random.randn(6, 4, 16).astype("f4"), np.random.randn(6, 16).astype("f4")
    np.savez(tmp_path / "named.npz", x=x, extra=extra, other=extra)
    np.savez(tmp_path / "shaped.npz", a=x, b=extra)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "extra.npy", extra)
    sources = [tmp_path / "named.npz", tmp_path / "shaped.npz", f"x={tmp_path}/x.npy,extra={tmp_path}/extra.npy"]
    for source in sources:
        calls = load_calibration(source, SHAPES, names=["x", "extra"])
        assert [[tuple(part.shape) for part in call] for call in calls] == [[(1, 4, 16), (1, 16)]] * 6
        assert torch.equal(calls[3][1], torch.from_numpy(extra[3:4]))


def test_an_input_of_its_static_shape_is_the_same_in_every_call(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((5, 16), "f4"), text=np.ones((7, 32), "f4"))
    calls = load_calibration(tmp_path / "x.npz", [(1, 16), (7, 32)], names=["image", "text"])
    assert len(calls) == 5 and all(call[1].shape == (7, 32) for call in calls)


def test_inputs_that_do_not_fit_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((6, 4, 16)), extra=np.zeros((5, 16)))
    with pytest.raises(ShapeError, match="different numbers of examples: 6, 5"):
        load_calibration(tmp_path / "x.npz", SHAPES, names=["x", "extra"])
    np.savez(tmp_path / "x.npz", a=np.zeros((6, 4, 16)), b=np.zeros((6, 16)), c=np.zeros((6, 16)))
    with pytest.raises(ShapeError, match=r"more than one array fits(.|\n)*Name the arrays after the inputs: x, extra"):
        load_calibration(tmp_path / "x.npz", SHAPES, names=["x", "extra"])
    with pytest.raises(UsageError, match="z, extra are not the inputs"):
        load_calibration("z=a.npy,extra=b.npy", SHAPES, names=["x", "extra"])
