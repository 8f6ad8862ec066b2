"""Test suites that others wrote, through `mpcc.capture`: ONNX's node tests, and PyTorch's OpInfo.

    python -m benchmarks.conformance onnx           1,202 cases of onnx.backend.test
    python -m benchmarks.conformance torch          op_db of torch.testing (needs the package expecttest)
    python -m benchmarks.conformance emulate        the same, one sample an operator, optimised and emulated in fixed point
    python -m benchmarks.conformance page           docs/conformance.md from docs/conformance.json

Of each case the first float input is secret, everything else a constant. Right is what the suite says; a case may also be
refused with an MpccError. Prints every other case; exits 1 if there is one. `--write` keeps the counts, and why what was
refused, in docs/conformance.json.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

import mpcc
from mpcc.errors import MpccError
from mpcc.files import write

SECONDS = 60
# What draws random numbers has no answer to compare with.
RANDOM = ("rand", "empty", "normal", "dropout", "bernoulli", "cauchy", "exponential", "geometric", "uniform", "multinomial")
SAMPLES = 3


@dataclass(frozen=True)
class Case:
    """A model, the value of its secret input, and what the suite says that it gives."""

    name: str
    model: Any
    secret: torch.Tensor
    wanted: Sequence[torch.Tensor]


@dataclass(frozen=True)
class Verdict:
    case: str
    kind: str
    why: str = ""


class TooLong(BaseException):
    """Not an Exception, so that nobody below takes it for an error of a model."""


def onnx_cases(step: int = 1) -> Iterator[Case]:
    """Every `step`-th node test whose inputs and outputs are arrays and that has a float input."""
    from onnx.backend.test.case.node import collect_testcases

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for test in list(collect_testcases(None))[::step]:
            inputs, outputs = test.data_sets[0]
            named = list(zip(test.model.graph.input, inputs, strict=False))
            if len(inputs) != len(test.model.graph.input) or not all(isinstance(a, np.ndarray) for a in (*inputs, *outputs)):
                continue
            secret = next(((info.name, value) for info, value in named if value.dtype.kind == "f" and value.size), None)
            if secret is None:
                continue
            path.write_bytes(_with_constants(test.model, {i.name: v for i, v in named if i.name != secret[0]}))
            wanted = [torch.from_numpy(np.asarray(value, dtype=np.float64)) for value in outputs]
            yield Case(test.name, path, torch.from_numpy(np.array(secret[1], dtype=np.float32)), wanted)


def _with_constants(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> bytes:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    kept = [info for info in changed.graph.input if info.name not in constants]
    del changed.graph.input[:]
    changed.graph.input.extend(kept)
    changed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return bytes(changed.SerializeToString())


class Operator(torch.nn.Module):
    """An operator of its first argument."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x, *self.args, **self.kwargs)


def torch_cases(step: int = 1) -> Iterator[Case]:
    """The first samples of every `step`-th operator that has a float answer for a float input."""
    from torch.testing._internal.common_methods_invocations import op_db

    for operator in op_db[::step]:
        if torch.float32 not in operator.dtypes or any(word in operator.name for word in RANDOM):
            continue
        found = 0
        for sample in _samples(operator):
            model = Operator(operator.op, sample.args, sample.kwargs)
            try:
                answer = model(sample.input.clone())
            except Exception:  # the suite also holds samples that PyTorch itself refuses
                continue
            if isinstance(answer, torch.Tensor) and answer.dtype.is_floating_point and answer.numel() and found < SAMPLES:
                found += 1
                yield Case(f"{operator.name} {operator.variant_test_name}".strip(), model, sample.input, [answer])


def _samples(operator: Any) -> list[Any]:
    try:
        samples = list(operator.sample_inputs("cpu", torch.float32, requires_grad=False))
    except Exception:  # some need a package or a device that is not there
        return []
    return [one for one in samples if isinstance(one.input, torch.Tensor) and one.input.layout is torch.strided
            and one.input.dtype.is_floating_point and one.input.numel() and "dropout_p" not in one.kwargs]  # fmt: skip


def captured(case: Case) -> Any:
    return mpcc.capture(case.model, (case.secret,))(case.secret)


CALLS, SPREAD, APART = 64, 0.1, 0.05
"""Calibration inputs of an operator: its sample times 1 +- 0.1. What fixed point may be off by, of 1 + the largest output."""


def emulated(case: Case) -> Any:
    """What the optimised model gives in fixed point."""
    generator = torch.Generator().manual_seed(0)
    factors = [1 + SPREAD * (2 * torch.rand(case.secret.shape, generator=generator) - 1) for _ in range(CALLS - 1)]
    inputs = [(case.secret,), *((case.secret * factor,) for factor in factors)]
    made = mpcc.optimize(case.model, (case.secret,), calibration=inputs, machine="reference")
    found = made.executable().emulate(case.secret, check=False)
    shapes = [tuple(one.shape) for one in case.wanted]
    flat = [found] if isinstance(found, torch.Tensor) else list(found)
    pairs = zip(flat, shapes, strict=True)  # outputs of one element come as [calls]
    return [one.reshape(shape) if one.numel() == torch.Size(shape).numel() else one for one, shape in pairs]


def one_of_each(cases: Iterator[Case]) -> Iterator[Case]:
    """The first case of every name that is captured rightly."""
    done: set[str] = set()
    for case in cases:
        if case.name not in done and judge(case).kind == "right":
            done.add(case.name)
            yield case


def judge(case: Case, run: Callable[[Case], Any] = captured, apart: float = 2e-4) -> Verdict:
    """right, refused, or in capitals what it must not be."""
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with torch.no_grad():
            found = run(case)
    except MpccError as error:
        return Verdict(case.name, "refused", error.what)
    except TooLong:
        return Verdict(case.name, "HANG")
    except Exception as error:
        return Verdict(case.name, "TRACEBACK", f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    flat = [found] if isinstance(found, torch.Tensor) else list(found)
    why = _difference(flat, case.wanted, apart)
    return Verdict(case.name, "WRONG" if why else "right", why)


def _difference(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], apart: float) -> str:
    if len(found) != len(wanted):
        return f"{len(found)} outputs, not {len(wanted)}"
    for place, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        if mine.shape != theirs.shape:
            return f"output {place} has the shape {tuple(mine.shape)}, not {tuple(theirs.shape)}"
        finite = theirs[theirs.isfinite()].abs().double()
        scale = 1 + (float(finite.max()) if finite.numel() else 0.0)
        rounding = torch.finfo(theirs.dtype).eps if theirs.dtype.is_floating_point else 0.0  # mpcc computes in float32
        if not torch.allclose(mine.double(), theirs.double(), rtol=max(2e-3, rounding), atol=apart * scale, equal_nan=True):
            return f"output {place} is off by {float((mine.double() - theirs.double()).abs().nan_to_num().max()):.3g}"
    return ""


def _too_long(number: int, frame: Any) -> None:
    raise TooLong


SUITES = {"onnx": onnx_cases, "torch": torch_cases}
JSON, PAGE = (Path(__file__).parents[1] / "docs" / f"conformance.{kind}" for kind in ("json", "md"))
TITLES = {"onnx": "ONNX node tests", "torch": "PyTorch OpInfo", "emulate": "OpInfo, optimised and emulated"}
NUMBER, QUOTED = re.compile(r"\d+"), re.compile(r"(?:node|the node that gives) [^ ]+( in layer [^ ]+)?")


def reason(why: str) -> str:
    """A refusal without the names and numbers of its case, in one line."""
    lines = [QUOTED.sub("", line).strip(" :,") for line in why.splitlines()]
    listed = lines[1:] if len(lines) > 1 else lines
    return NUMBER.sub("N", "; ".join(dict.fromkeys(line for line in listed if line)))[:160]


def page(kept: dict[str, Any]) -> str:
    """docs/conformance.md"""
    rows = [
        f"| {TITLES[name]} | {one['cases']:,} | {one['right']:,} | {one['names']:,} | {one['refused']:,} | {one['wrong']} |"
        for name, one in sorted(kept.items())
    ]
    parts = [f"# {TITLES[name]}: why refused\n\n| cases | why |\n| ---: | --- |\n" + "".join(
        f"| {count} | {why.replace('|', '/')} |\n" for why, count in one["why"].items()
    ) for name, one in sorted(kept.items())]  # fmt: skip
    head = "# Test suites that others wrote\n`python -m benchmarks.conformance SUITE --write` runs one and writes this page.\n\n"
    columns = "| suite | cases | right | names with a right case | refused | wrong, traceback or hang |\n"
    table = columns + "| --- | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(rows) + "\n"
    return head + table + "\n" + "\n".join("#" + part for part in parts)


def _kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(JSON.read_text(encoding="utf-8")) if JSON.exists() else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suite", choices=[*sorted(SUITES), "emulate", "page"])
    parser.add_argument("--step", type=int, default=1, help="only every N-th case")
    parser.add_argument("--write", action="store_true", help="keep the counts in docs/conformance.json, and write the page")
    given = parser.parse_args()
    if given.suite == "page":
        write(PAGE, page(_kept()))
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    emulate = given.suite == "emulate"
    cases = one_of_each(torch_cases(given.step)) if emulate else SUITES[given.suite](given.step)
    found = []
    for case in cases:
        found.append(judge(case, emulated, APART) if emulate else judge(case))
        if found[-1].kind.isupper():
            print(f"{found[-1].kind} {found[-1].case}: {found[-1].why[:160]}", flush=True)
    counts = Counter(one.kind for one in found)
    names = {one.case for one in found if one.kind == "right"}
    print(f"{given.suite}: {len(found):,} cases; " + ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items())))
    print(f"{len(names):,} names with a right case")
    if given.write:
        why = Counter(reason(one.why) for one in found if one.kind == "refused")
        wrong = sum(count for kind, count in counts.items() if kind.isupper())
        kept = _kept()
        kept[given.suite] = {
            "cases": len(found), "right": counts["right"], "names": len(names), "refused": counts["refused"], "wrong": wrong,
            "why": dict(why.most_common()),
        }  # fmt: skip
        write(JSON, json.dumps(kept, indent=1) + "\n")
        write(PAGE, page(kept))
    sys.exit(any(kind.isupper() for kind in counts))


if __name__ == "__main__":
    main()
