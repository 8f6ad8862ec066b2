"""Test suites that others wrote, through `mpcc.capture`: ONNX's node tests, and PyTorch's OpInfo.

    python -m benchmarks.conformance onnx           1,202 cases of onnx.backend.test
    python -m benchmarks.conformance torch          op_db of torch.testing (needs the package expecttest)

Of each case the first float input is secret, everything else a constant. Right is what the suite says; a case may also be
refused with an MpccError. Prints a table and every other case; exits 1 if there is one.
"""

from __future__ import annotations

import argparse
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


def judge(case: Case) -> Verdict:
    """right, refused, or in capitals what it must not be."""
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with torch.no_grad():
            graph = mpcc.capture(case.model, (case.secret,))
            found = graph(case.secret)
    except MpccError as error:
        return Verdict(case.name, "refused", error.what)
    except TooLong:
        return Verdict(case.name, "HANG")
    except Exception as error:
        return Verdict(case.name, "TRACEBACK", f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    flat = [found] if isinstance(found, torch.Tensor) else list(found)
    why = _difference(flat, case.wanted)
    return Verdict(case.name, "WRONG" if why else "right", why)


def _difference(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> str:
    if len(found) != len(wanted):
        return f"{len(found)} outputs, not {len(wanted)}"
    for place, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        if mine.shape != theirs.shape:
            return f"output {place} has the shape {tuple(mine.shape)}, not {tuple(theirs.shape)}"
        finite = theirs[theirs.isfinite()].abs().double()
        scale = 1 + (float(finite.max()) if finite.numel() else 0.0)
        rounding = torch.finfo(theirs.dtype).eps if theirs.dtype.is_floating_point else 0.0  # mpcc computes in float32
        if not torch.allclose(mine.double(), theirs.double(), rtol=max(2e-3, rounding), atol=2e-4 * scale, equal_nan=True):
            return f"output {place} is off by {float((mine.double() - theirs.double()).abs().nan_to_num().max()):.3g}"
    return ""


def _too_long(number: int, frame: Any) -> None:
    raise TooLong


SUITES = {"onnx": onnx_cases, "torch": torch_cases}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--step", type=int, default=1, help="only every N-th case")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    names: set[str] = set()
    for case in SUITES[given.suite](given.step):
        found = judge(case)
        counts[found.kind] += 1
        names |= {found.case} if found.kind == "right" else set()
        if found.kind.isupper():
            print(f"{found.kind} {found.case}: {found.why[:160]}", flush=True)
    total = sum(counts.values())
    print(f"{given.suite}: {total:,} cases; " + ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items())))
    print(f"{len(names):,} names with a right case")
    sys.exit(any(kind.isupper() for kind in counts))


if __name__ == "__main__":
    main()
