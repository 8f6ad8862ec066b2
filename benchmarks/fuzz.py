"""Mutated files through the readers: `make fuzz`. Seeded, in one process, with limits on its time and memory.

    python benchmarks/fuzz.py                     2,000 ONNX files, 200 .pt2 files, 500 NumPy files
    python benchmarks/fuzz.py --part 0.05         a twentieth of each

Right is: an MpccError, or what the file says (an ONNX file is compared with onnxruntime where that accepts it too).
Prints a table, and every case that is neither; exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import signal
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

import mpcc
from mpcc.calibration import load_calibration
from mpcc.errors import MpccError
from tests.models.onnx_build import model, weights
from tests.models.torch_models import Small

SECONDS, MEMORY = 10, 1 << 30
# Of the processor, for other programs may run beside this one; and by the clock, for what waits takes no processor.
CLOCKS = ((signal.ITIMER_PROF, signal.SIGPROF, SECONDS), (signal.ITIMER_REAL, signal.SIGALRM, 6 * SECONDS))
TEXTS = ["", "class", '"); __import__("os").system("true"); ("', "a" * 5000, "\x00\x1b[2J", "../x", "\u202e", "a.b.c", "0"]
INTEGERS = [0, 1, -1, 2, 7, 63, 64, 10**5, 10**9, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"), 0.5]


class TooLong(BaseException):
    """Not an Exception, so that no reader can take it for its own."""


@dataclass
class Found:
    """What became of one file."""

    kind: str
    verdict: str
    what: str = ""


# ------------------------------------------------------------------------------------------------------------- ONNX


def onnx_models() -> list[onnx.ModelProto]:
    """Small models that together hold most kinds of operators and attributes."""

    node, ints = helper.make_node, np.array
    conv = [
        node("Conv", ["x", "w", "b"], ["a"], name="/patch/Conv", strides=[2, 2], pads=[1, 1, 1, 1], group=1),
        node("BatchNormalization", ["a", "s", "b", "m", "v"], ["c"], name="/norm/BN", epsilon=1e-5),
        node("Relu", ["c"], ["d"]),
        node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[1, 1], ceil_mode=0),
        node("AveragePool", ["e"], ["f"], kernel_shape=[2, 2], pads=[0, 1, 0, 1], count_include_pad=1),
        node("Resize", ["f", "", "up"], ["g"], mode="linear", coordinate_transformation_mode="half_pixel"),
        node("Flatten", ["g"], ["h"], axis=1),
        node("ReduceMean", ["h", "one"], ["y"], keepdims=0),
    ]
    first = model(conv, {"x": [1, 3, 8, 8]}, ["y"], {
        "w": weights(4, 3, 3, 3), "b": weights(4), "s": weights(4), "m": weights(4), "v": np.abs(weights(4)) + 0.1,
        "up": np.array([1, 1, 2, 2], np.float32), "one": ints([1]),
    }, opset=18)  # fmt: skip
    block = [
        node("LayerNormalization", ["x", "s", "b"], ["n"], axis=-1, epsilon=1e-5, name="/blocks.0/norm/LN"),
        node("MatMul", ["n", "wq"], ["qkv"], name="/blocks.0/attn/qkv/MatMul"),
        node("Split", ["qkv", "three"], ["q", "k", "v"], axis=2),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["scores"]),
        node("Mul", ["scores", "scale"], ["scaled"]),
        node("Softmax", ["scaled"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["o"]),
        node("Gemm", ["row", "wo", "b"], ["gelu_in"], alpha=1.0, beta=1.0, transB=1),
        node("Gather", ["o", "zero"], ["row"], axis=1),
        node("Erf", ["gelu_in"], ["er"]),
        node("Where", ["mask", "er", "gelu_in"], ["y"]),
    ]
    second = model(block, {"x": [1, 5, 8]}, ["y"], {
        "s": weights(8), "b": weights(8), "wq": weights(8, 24), "three": ints([8, 8, 8]), "wo": weights(8, 8),
        "scale": np.float32(0.35), "zero": np.int64(0), "mask": np.array([True, False] * 4),
    }, opset=18)  # fmt: skip
    views = [
        node("Shape", ["x"], ["sh"]),
        node("Slice", ["sh", "i0", "i1"], ["batch"]),
        node("Concat", ["batch", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["r"], allowzero=0),
        node("Pad", ["r", "pads"], ["pd"], mode="reflect"),
        node("Slice", ["pd", "i0", "i4", "i1", "i1"], ["sl"]),
        node("Tile", ["sl", "twice"], ["t"]),
        node("Expand", ["t", "wide"], ["e"]),
        node("Unsqueeze", ["e", "i0"], ["u"]),
        node("Clip", ["u", "low", "high"], ["c"]),
        node("Pow", ["c", "two"], ["p"]),
        node("ReduceSum", ["p", "i1"], ["y"], keepdims=1),
    ]
    third = model(views, {"x": [2, 12]}, ["y"], {
        "i0": ints([0]), "i1": ints([1]), "i4": ints([4]), "rest": ints([3, 4]), "pads": ints([0, 1, 0, 0, 0, 1]),
        "twice": ints([1, 1, 2]), "wide": ints([2, 4, 10]), "low": np.float32(-1), "high": np.float32(1), "two": np.float32(2),
    }, opset=18)  # fmt: skip
    return [first, second, third]


def mutated(proto: onnx.ModelProto, draw: random.Random) -> bytes:
    """A byte changed, a piece cut, or up to three fields with other values."""
    if draw.random() < 0.3:
        content = proto.SerializeToString()
        start = draw.randrange(len(content))
        length = draw.choice([1, 1, 4, 100])
        middle = draw.choice([b"", draw.randbytes(length), bytes(length), content[start : start + length] * 2])
        return content[:start] + middle + content[start + length :]
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        _mutate(draw.choice(list(_messages(changed.graph))), draw)
    return bytes(changed.SerializeToString())


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for item in value if field.is_repeated else [value]:
                yield from _messages(item)


def _mutate(message: Any, draw: random.Random) -> None:
    fields = [field for field, _ in message.ListFields()] or list(message.DESCRIPTOR.fields)
    field = draw.choice(fields)
    if field.is_repeated:
        items = getattr(message, field.name)
        action = draw.choice(["delete", "double", "value"])
        if len(items) and action == "delete":
            del items[draw.randrange(len(items))]
        elif len(items) and action == "double" and field.type == field.TYPE_MESSAGE:
            items.add().CopyFrom(items[draw.randrange(len(items))])
        elif field.type != field.TYPE_MESSAGE and len(items):
            items[draw.randrange(len(items))] = _value(field, draw)
    elif field.type == field.TYPE_MESSAGE:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _value(field, draw))


def _value(field: Any, draw: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return draw.choice(TEXTS)
    if field.type == field.TYPE_BYTES:
        return draw.choice([*(text.encode() for text in TEXTS), draw.randbytes(16)])
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return draw.choice(FLOATS)
    if field.type == field.TYPE_ENUM:
        return draw.choice(field.enum_type.values).number
    whole = draw.choice(INTEGERS)
    return whole if field.type in (field.TYPE_INT64, field.TYPE_SINT64) else max(0, min(whole, 2**31 - 1))


def onnx_case(number: int, folder: Path) -> Callable[[], Found]:
    draw = random.Random(f"onnx {number}")
    path = folder / "case.onnx"
    path.write_bytes(mutated(draw.choice(MODELS), draw))
    return lambda: _read_onnx(path)


def _read_onnx(path: Path) -> Found:
    graph = mpcc.capture(path)
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    if _is_large(graph):
        return Found("ONNX", "accepted, not compared", "too large to run")
    generator = torch.Generator().manual_seed(0)
    values = [torch.rand(node.meta["val"].shape, generator=generator) * 2 - 1 for node in inputs]
    with torch.no_grad():
        found = graph(*values)
    wanted = _by_onnxruntime(path, values)
    if wanted is None:
        return Found("ONNX", "accepted, not compared", "onnxruntime refuses it")
    got = [found] if isinstance(found, torch.Tensor) else list(found)
    for mine, theirs in zip(got, wanted, strict=True):
        other = torch.from_numpy(np.asarray(theirs, dtype=np.float64))
        size = max(1.0, float(other[other.isfinite()].abs().max()) if other.isfinite().any() else 1.0)
        if mine.shape != other.shape or not torch.allclose(mine.double(), other, atol=1e-3 * size, rtol=1e-3, equal_nan=True):
            if not other.isfinite().all():
                return Found("ONNX", "accepted, not compared", "not finite")
            return Found("ONNX", "WRONG", f"shapes {tuple(mine.shape)} and {tuple(other.shape)}")
    return Found("ONNX", "accepted, right")


def _is_large(graph: torch.fx.GraphModule) -> bool:
    return any(node.meta["val"].numel() > 10**6 for node in graph.graph.nodes if node.op == "call_function")


def _by_onnxruntime(path: Path, values: list[torch.Tensor]) -> list[Any] | None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_inputs()]
        answer: list[Any] = session.run(None, {name: value.numpy() for name, value in zip(names, values, strict=True)})
        return answer
    except Exception:  # onnxruntime has no class of its own errors
        return None


# ------------------------------------------------------------------------------------------------------------- .pt2


def pt2_case(number: int, folder: Path) -> Callable[[], Found]:
    """Bytes of the archive, or one value of one of its JSON files."""
    draw = random.Random(f"pt2 {number}")
    content = PROGRAM
    if draw.random() < 0.3:
        start = draw.randrange(len(content))
        content = content[:start] + draw.randbytes(draw.choice([1, 4])) + content[start + draw.choice([1, 4]) :]
    else:
        content = _with_json(content, draw)
    path = folder / "case.pt2"
    path.write_bytes(content)

    def read() -> Found:
        graph = mpcc.capture(path)
        if _is_large(graph):
            return Found(".pt2", "accepted, not compared", "too large to run")
        inputs = [torch.zeros(node.meta["val"].shape) for node in graph.graph.nodes if node.op == "placeholder"]
        graph(*inputs)
        return Found(".pt2", "accepted, runs")

    return read


def _with_json(content: bytes, draw: random.Random) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        chosen = draw.choice([name for name in old.namelist() if name.endswith(".json")])
        for name in old.namelist():
            inside = old.read(name)
            new.writestr(name, json.dumps(_changed(json.loads(inside), draw)) if name == chosen else inside)
    return made.getvalue()


def _changed(document: Any, draw: random.Random) -> Any:
    places = [place for place in _places(document) if "stack_trace" not in place]
    place = draw.choice(places)
    holder = document
    for step in place[:-1]:
        holder = holder[step]
    if draw.random() < 0.2:
        del holder[place[-1]]
    else:
        holder[place[-1]] = draw.choice([*TEXTS, *INTEGERS, *FLOATS, None, True, [], {}, [[[]]], {"as_int": 3}])
    return document


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


# ----------------------------------------------------------------------------------------------------- NumPy files


def array_case(number: int, folder: Path) -> Callable[[], Found]:
    draw = random.Random(f"array {number}")
    made, kind = io.BytesIO(), draw.choice(["f4", "f8", "u1", "i8", "f2", "?"])
    array = np.random.default_rng(number).normal(size=(3, 4)).astype(kind)
    if draw.random() < 0.3 and kind in ("f4", "f8", "i8"):
        array[draw.randrange(3), 1] = draw.choice([0, 1, 2**20, 2**46] if kind == "i8" else [*FLOATS, 1e38])
    if draw.random() < 0.5:
        np.save(made, array)
    else:
        draw.choice([np.savez, np.savez_compressed])(made, x=array, **({"y": array} if draw.random() < 0.3 else {}))
    content = made.getvalue()
    for _ in range(draw.choice([0, 1, 1, 3])):
        start = draw.randrange(draw.choice([128, len(content)])) % len(content)
        content = content[:start] + draw.randbytes(draw.choice([0, 1, 4])) + content[start + draw.choice([0, 1, 4]) :]
    path = folder / draw.choice(["case.npy", "case.npz"])
    path.write_bytes(content)

    def read() -> Found:
        found = load_calibration(path, [(1, 4)])
        assert isinstance(found, torch.Tensor)
        fits = bool(found.isfinite().all()) and float(found.abs().max()) <= 2**20
        return Found("NumPy", "accepted, right" if fits else "WRONG")

    return read


# ------------------------------------------------------------------------------------------------------------- runs

MODELS = onnx_models()
PROGRAM = b""
KINDS: dict[str, tuple[Callable[[int, Path], Callable[[], Found]], int]] = {
    "ONNX": (onnx_case, 2000),
    ".pt2": (pt2_case, 200),
    "NumPy": (array_case, 500),
}


def fuzz(part: float = 1.0) -> Iterator[tuple[int, Found]]:
    """(number, what became of it) of every file, `part` of the usual number."""
    global PROGRAM
    made = io.BytesIO()
    torch.manual_seed(0)
    torch.export.save(torch.export.export(Small().eval(), (torch.zeros(1, 2, 4, 4),)), made)
    PROGRAM = made.getvalue()
    with tempfile.TemporaryDirectory() as name:
        for kind, (make, count) in KINDS.items():
            for number in range(max(1, round(count * part))):
                yield number, judged(kind, make(number, Path(name)))


def judged(kind: str, read: Callable[[], Found]) -> Found:
    """What `read` gives, or how it ends; its memory and time are limited."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind_of_time, sign, seconds in CLOCKS:
        signal.signal(sign, _too_long)
        signal.setitimer(kind_of_time, seconds)
    try:
        found = read()
    except MpccError:
        found = Found(kind, "refused")
    except TooLong:
        found = Found(kind, "HANG", f"more than {SECONDS} s")
    except (Exception, RecursionError) as error:
        found = Found(kind, "TRACEBACK", f"{type(error).__name__}: {str(error)[:200]}")
    finally:
        for kind_of_time, _, _ in CLOCKS:
            signal.setitimer(kind_of_time, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return Found(kind, "MEMORY", f"{grown:,} bytes") if grown > MEMORY else found


def _too_long(number: int, frame: Any) -> None:
    raise TooLong


def table(found: list[Found]) -> str:
    """One row for each kind of file and one column for each verdict, as Markdown."""
    verdicts = sorted({one.verdict for one in found})
    lines = ["| files | tried | " + " | ".join(verdicts) + " |", "| --- |" + " ---: |" * (len(verdicts) + 1)]
    for kind in KINDS:
        counts = Counter(one.verdict for one in found if one.kind == kind)
        cells = [f"{sum(counts.values()):,}", *(f"{counts[verdict]:,}" for verdict in verdicts)]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", type=float, default=1.0, help="the part of the files that is tried")
    part = parser.parse_args().part
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = []
    for number, one in fuzz(part):
        found.append(one)
        if one.verdict.isupper():
            print(f"{one.verdict} {one.kind} {number}: {one.what}", file=sys.stderr, flush=True)
    print(table(found))
    sys.exit(any(one.verdict.isupper() for one in found))


if __name__ == "__main__":
    main()
