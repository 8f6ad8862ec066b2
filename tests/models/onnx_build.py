"""Small ONNX models in one line, and the question of all tests: does the graph give what onnxruntime gives?

    case("Softmax", x(2, 3, 4), opset=11, axis=1)
    case("Clip", x(2, 3), None, np.float32(1), opset=13)

`x(...)` is an input of the model with that shape, an array an initialiser, None an input that is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mpcc.errors import UnsupportedOperator
from mpcc.frontend.canonical import canonicalise
from mpcc.frontend.onnx import import_graph

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Input:
    """An input of the model: random numbers of that shape, shifted and stretched."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0

    def value(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).uniform(self.low, self.high, self.shape).astype(np.float32)


def x(*shape: int, low: float = -2.0, high: float = 2.0) -> Input:
    return Input(shape, low, high)


def f(*numbers: Any) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


def i(*numbers: Any) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def weights(*shape: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@dataclass
class Case:
    """One operator on some inputs."""

    kind: str
    inputs: tuple[Any, ...]
    opset: int
    domain: str
    outputs: int
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        shapes = "-".join("x".join(map(str, np.shape(item))) for item in self.inputs if item is not None)
        attributes = ",".join(f"{key}={value}" for key, value in self.attributes.items())
        return f"{self.kind}{self.opset}({shapes})[{attributes}]"

    def model(self) -> ModelProto:
        feeds, stored, names = {}, {}, []
        for place, item in enumerate(self.inputs):
            names.append("" if item is None else f"in{place}")
            if isinstance(item, Input):
                feeds[f"in{place}"] = item.shape
            elif item is not None:
                stored[f"in{place}"] = np.asarray(item)
        results = [f"out{place}" for place in range(self.outputs)]
        node = helper.make_node(self.kind, names, results, name="/layer/node", domain=self.domain, **self.attributes)
        output_type = TensorProto.INT64 if self.kind.startswith("Arg") else TensorProto.FLOAT
        return model([node], feeds, results, stored, self.opset, output_type)

    def arrays(self) -> list[np.ndarray]:
        return [item.value(seed) for seed, item in enumerate(self.inputs) if isinstance(item, Input)]


def case(kind: str, *inputs: Any, opset: int = 17, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
    made = Case(kind, inputs, opset, domain, outputs, attributes)
    return pytest.param(made, id=made.name)


def model(
    nodes: Sequence[NodeProto],
    inputs: dict[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    stored: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    output_type: int = TensorProto.FLOAT,
) -> ModelProto:
    """A model from its nodes; all inputs are float."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, output_type, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (stored or {}).items()],
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8 if opset < 21 else 10)


def run_onnxruntime(proto: ModelProto | str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = proto if isinstance(proto, str) else proto.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def run(graph: torch.fx.GraphModule, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        result = graph(*[torch.from_numpy(array) for array in arrays])
    return [item.numpy() for item in (result if isinstance(result, tuple) else (result,))]


def agree(proto: ModelProto, arrays: Sequence[np.ndarray], tolerance: float = 1e-5, **options: Any) -> None:
    """The imported graph, and the canonical one where there is one, equal onnxruntime within a relative tolerance."""
    expected = run_onnxruntime(proto, arrays)
    graph = import_graph(proto, **options)
    compare(run(graph, arrays), expected, tolerance)
    try:
        canonical = canonicalise(graph)
    except UnsupportedOperator:
        return
    compare(run(canonical, arrays), expected, tolerance)


def compare(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        scale = max(float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)), 1.0)
        np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=0, atol=tolerance * scale)
