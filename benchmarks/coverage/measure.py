"""For each `library model` on standard input: build it, run it, capture it, compare; one row of JSON a line."""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from benchmarks.coverage.lowering import lowers
from benchmarks.coverage.shallow import shallow
from mpcc.errors import MpccError
from mpcc.frontend import capture
from mpcc.ir.nn import OPERATORS, sites

# What eager mode calls when a model computes a softmax, a GELU, a layer norm.
_KERNELS = {
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "gelu": "gelu",
    "native_layer_norm": "layer_norm",
    "flex_attention": "softmax",
}


class Counting(TorchDispatchMode):
    """Counts the non-linear kernels that run on what depends on the inputs, independently of any capture."""

    supports_higher_order_operators = True

    def __init__(self, inputs: Any) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.dependent = WeakTensorKeyDictionary()
        self.mark(inputs)

    def mark(self, value: Any) -> None:
        for tensor in tensors(value):
            self.dependent[tensor] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(tensor in self.dependent for tensor in tensors((args, kwargs))):
            self.mark(result)
            name = func.name().removeprefix("aten::").partition(".")[0]
            name = "softmax" if name.startswith("_scaled_dot_product") else _KERNELS.get(name, "")
            self.found[name] += 1 if name else 0
        return result


def measured(library: str, name: str, until: str) -> Iterator[dict[str, Any]]:
    """The row without `lowers`, then, `until` that is asked for, the row with it, which can take long."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch._dynamo.reset()
    row: dict[str, Any] = {"library": library, "model": name, "status": "cannot be built"}
    try:
        model, inputs = importlib.import_module(f"benchmarks.coverage.{library}_models").build(name)
        model.eval()
        model = shallow(model, lambda cut: call(cut, inputs))
        unsettle(model)
        row["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        torch.manual_seed(1)  # models that draw numbers draw the same ones when captured
        with torch.no_grad():
            expected = flat(call(model, inputs))
        if not expected:
            raise ValueError("it gives no tensor")
    except Exception as error:
        yield row | {"reason": f"{type(error).__name__}: {first_line(error)}"}
        return
    start = time.process_time()
    torch.manual_seed(1)
    try:
        graph = capture(model, inputs)
    except MpccError as error:
        yield row | {"status": "not captured", "reason": str(error)}
        return
    row["capture_seconds"] = round(time.process_time() - start, 1)
    with torch.no_grad():
        found = flat(graph(*tensors(inputs)))
    error = relative_error(found, expected)
    counts = Counter(OPERATORS[node.target].name for node in sites(graph).values())
    missing = {kind: count - counts[kind] for kind, count in kernels(model, inputs).items() if counts[kind] < count}
    row |= {"relative_error": error, "sites": dict(sorted(counts.items())), "missing_sites": missing}
    row["status"] = "captured" if error <= 1e-4 else "differs"
    yield row
    if until == "lower":
        start = time.process_time()
        why, error = lowers(graph, tensors(inputs))
        yield row | {"lowers": why, "secure_error": error, "lower_seconds": round(time.process_time() - start, 1)}


def call(model: torch.nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def kernels(model: torch.nn.Module, inputs: Any) -> Counter[str]:
    """How often eager mode computes each non-linear function; nothing where it cannot be watched."""
    try:
        with torch.no_grad(), Counting(inputs) as counting:
            call(model, inputs)
    except RuntimeError:
        return Counter()
    return counting.found


def unsettle(model: torch.nn.Module) -> None:
    """Noise on every parameter and statistic: zeros and ones of fresh models hide what is wrong."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.add_(torch.randn(buffer.shape, generator=generator) * 0.1)
            elif key.endswith("running_var"):
                buffer.mul_(torch.rand(buffer.shape, generator=generator) + 0.5)


def flat(value: Any) -> list[torch.Tensor]:
    return tensors(dict(value) if hasattr(value, "keys") else value)


def tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def relative_error(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest difference of any output, relative to that output's largest value; infinite if shapes differ."""
    if [item.shape for item in found] != [item.shape for item in expected]:
        return float("inf")
    pairs = [(a.float(), b.float()) for a, b in zip(found, expected, strict=True) if b.numel()]
    return max((float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs), default=0.0)


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for request in sys.stdin:
        for row in measured(*request.split()):
            print(json.dumps(row), flush=True)
        print("done", flush=True)
