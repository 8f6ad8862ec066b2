"""The contract of every approximation: it stands for its operator within its declared error, runs and traces alike, and
its options are plain JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from mpcc import registry
from mpcc.approximate import LEVELS, Approximation, Options, SiteStatistics
from mpcc.approximate.expand import ATTRIBUTES
from mpcc.calibration.calibrate import calibrate
from mpcc.ir import mpc, nn
from mpcc.ir.trace import Recorder

SLACK = 1e-9


@dataclass(frozen=True)
class Case:
    """One operator with inputs that look like a model's; `arguments` come after the tensors, as ATen has it."""

    operator: str
    tensors: tuple[Tensor, ...]
    reference: Callable[..., Tensor]
    arguments: tuple[Any, ...] = ()


def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + int(100 * scale) + int(10 * shift))
    return torch.randn(shape, generator=generator, dtype=torch.float64) * scale + shift


def positive(low: float, high: float) -> Tensor:
    return torch.exp(torch.linspace(torch.tensor(low).log(), torch.tensor(high).log(), 4096, dtype=torch.float64))


ROWS = normal(8, 4, 17, 17, scale=1.2)
TOKENS = normal(64, 17, 32) * (0.5 + torch.rand((64, 17, 1), generator=torch.Generator().manual_seed(0)))
UNEQUAL = TOKENS * torch.logspace(-1.8, 0.7, 17)[:, None]
WIDE = normal(64, 64, scale=2.0)
WEIGHT, BIAS = normal(32, scale=0.3, shift=1.0), normal(32, scale=0.1)

CASES = [
    Case("softmax", (ROWS,), lambda x: x.softmax(-1), (-1,)),
    Case("softmax", (ROWS * 2.5,), lambda x: x.softmax(-1), (-1,)),
    Case("softmax", (ROWS.transpose(-1, -2).contiguous() * 0.3,), lambda x: x.softmax(2), (2,)),
    Case("gelu", (WIDE,), F.gelu),
    Case("gelu", (normal(64, 64, scale=0.6, shift=-0.4),), F.gelu),
    Case("layer_norm", (TOKENS,), lambda x: F.layer_norm(x, (32,)), ((32,),)),
    Case("layer_norm", (UNEQUAL,), lambda x: F.layer_norm(x, (32,)), ((32,),)),
    Case("layer_norm", (TOKENS, WEIGHT, BIAS), lambda x, w, b: F.layer_norm(x, (32,), w, b), ((32,),)),
    Case("rms_norm", (TOKENS, WEIGHT), lambda x, w: F.rms_norm(x, (32,), w, 1e-5), ((32,),)),
    Case("group_norm", (TOKENS.reshape(64, 544, 1, 1)[:, :32], WEIGHT, BIAS),
         lambda x, w, b: F.group_norm(x, 4, w, b), (4,)),
    Case("relu", (WIDE,), F.relu),
    Case("silu", (WIDE,), F.silu),
    Case("silu", (WIDE * 0.1,), F.silu),
    Case("hardswish", (WIDE,), F.hardswish),
    Case("hardsigmoid", (WIDE,), F.hardsigmoid),
    Case("sigmoid", (WIDE,), torch.sigmoid),
    Case("tanh", (WIDE,), torch.tanh),
    Case("mish", (WIDE,), F.mish),
    Case("softplus", (WIDE,), F.softplus),
    Case("elu", (WIDE,), F.elu),
    Case("exp", (normal(64, 64, scale=1.0),), torch.exp),
    Case("exp", (-normal(64, 64, scale=2.0).abs(),), torch.exp),
    Case("reciprocal", (positive(0.5, 12.0),), torch.reciprocal),
    Case("reciprocal", (-positive(1.0, 3.0),), torch.reciprocal),
    Case("sqrt", (positive(0.5, 12.0),), torch.sqrt),
    Case("rsqrt", (positive(0.5, 12.0),), torch.rsqrt),
    Case("log", (positive(0.1, 12.0),), torch.log),
    Case("abs", (WIDE,), torch.abs),
    Case("clamp", (WIDE,), lambda x: x.clamp(-1.0, 2.0), (-1.0, 2.0)),
    Case("leaky_relu", (WIDE,), lambda x: F.leaky_relu(x, 0.2), (0.2,)),
    Case("maximum", (WIDE, WIDE.T.contiguous()), torch.maximum),
    Case("minimum", (WIDE, WIDE.T.contiguous()), torch.minimum),
    Case("amax", (ROWS,), lambda x: x.amax((2, 3)), ((2, 3),)),
    Case("max_pool2d", (ROWS,), lambda x: F.max_pool2d(x, 3, 2, 1), ((3, 3), (2, 2), (1, 1))),
]  # fmt: skip

EPS = {"rms_norm": 1e-5}


def graph_of(case: Case) -> fx.GraphModule:
    """An nn-level graph of the one operator; every tensor is an input."""
    graph = fx.Graph()
    nodes = []
    for position, tensor in enumerate(case.tensors):
        node = graph.placeholder(f"x{position}")
        node.meta["val"] = nn.meta_tensor(tensor)
        nodes.append(node)
    arguments = (*nodes, *case.arguments)
    if case.operator in ("layer_norm", "rms_norm", "group_norm"):  # the affine tensors come after the attributes
        arguments = (nodes[0], *case.arguments, *nodes[1:])
        arguments = (*arguments, EPS[case.operator]) if case.operator in EPS else arguments
    call = graph.call_function(nn.SITES[case.operator], arguments)
    value = nn.meta_tensor(case.reference(*case.tensors))
    call.meta = {"val": value, "layer": "layer", "site": f"layer.{case.operator}"}
    graph.output(call)
    return fx.GraphModule(torch.nn.Module(), graph)


@cache
def statistics_of(index: int) -> SiteStatistics:
    """What calibration sees when the tensors are the calibration inputs."""
    case = CASES[index]
    return calibrate(graph_of(case), [case.tensors])[f"layer.{case.operator}"]


@cache
def members_of(name: str, index: int) -> tuple[Options, ...]:
    return registry.approximation(name).candidates(statistics_of(index))


def attributes_of(index: int) -> dict[str, Any]:
    return dict(statistics_of(index).site.attributes)


NAMES = sorted(registry.approximations())
PAIRS = [
    pytest.param(name, index, id=f"{name}-{index}")
    for name in NAMES
    for index, case in enumerate(CASES)
    if registry.approximation(name).operator == case.operator
]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_declared_in_full(name: str) -> None:
    approximation = registry.approximation(name)
    assert approximation.level in LEVELS and approximation.source and approximation.summary
    assert approximation.name == name and len(approximation.summary) < 110
    cases = [index for index, case in enumerate(CASES) if case.operator == approximation.operator]
    assert cases, f"no case of {approximation.operator}"
    assert any(members_of(name, index) for index in cases), "no case in which it applies"


@pytest.mark.parametrize(("name", "index"), PAIRS)
def test_the_declared_error_holds(name: str, index: int) -> None:
    approximation, case = registry.approximation(name), CASES[index]
    expected = case.reference(*case.tensors)
    for options in members_of(name, index):
        found = approximation.function(*case.tensors, **attributes_of(index), **options)
        assert found.shape == expected.shape
        declared = approximation.error(options)
        if declared is None:
            assert approximation.level == "structural"
            continue
        weights = WEIGHT.abs().max() if len(case.tensors) == 3 or case.operator == "rms_norm" else 1.0
        assert (found - expected).abs().max() <= declared * weights + SLACK, options


ELEMENTWISE = {"gelu", "silu", "sigmoid", "tanh", "mish", "softplus", "elu", "exp", "reciprocal", "sqrt", "rsqrt", "log"}
EVERYWHERE = (-25.0, 25.0)
WORST = 0.5
"""A bounded member that is further off than this, or this share of the largest output, stands for nothing."""


@pytest.mark.parametrize(
    ("name", "index"), [p for p in PAIRS if registry.approximation(str(p.values[0])).operator in ELEMENTWISE]
)
def test_the_declared_error_holds_on_all_of_the_domain(name: str, index: int) -> None:
    """From end to end of it, not only where this case has values; everywhere if there is no domain."""
    approximation, case = registry.approximation(name), CASES[index]
    for options in members_of(name, index):
        declared = approximation.error(options)
        if declared is not None:
            low, high = approximation.domain(options).get("input", EVERYWHERE)
            x = torch.linspace(low, high, 50_001, dtype=torch.float64)
            found = approximation.function(x, **attributes_of(index), **options)
            assert float((found - case.reference(x)).abs().max()) <= declared + SLACK, options


@pytest.mark.parametrize(("name", "index"), PAIRS)
def test_the_domain_covers_what_calibration_saw(name: str, index: int) -> None:
    """It names quantities that calibration measures, so that it can be looked at on other inputs, too."""
    seen = statistics_of(index).ranges
    for options in members_of(name, index):
        for quantity, (low, high) in registry.approximation(name).domain(options).items():
            slack = 1e-3 * (high - low)
            assert low - slack <= seen[quantity].low <= seen[quantity].high <= high + slack, (quantity, options)


@pytest.mark.parametrize(("name", "index"), PAIRS)
def test_a_bounded_member_is_near_its_operator(name: str, index: int) -> None:
    approximation, case = registry.approximation(name), CASES[index]
    worst = WORST * max(1.0, float(case.reference(*case.tensors).abs().max()))
    if approximation.level == "bounded":
        for options in members_of(name, index):
            declared = approximation.error(options)
            assert declared is not None and declared <= worst, options


def test_the_first_norm_is_accurate_where_rows_differ_by_powers_of_ten() -> None:
    index = next(i for i, case in enumerate(CASES) if case.tensors[0] is UNEQUAL)
    seen = statistics_of(index).ranges["variance"]
    assert seen.high > 1e5 * seen.low
    norm = registry.approximation("layer_norm_fitted")
    first = norm.error(members_of(norm.name, index)[0])
    assert first is not None and first < 0.01


@pytest.mark.parametrize(("name", "index"), PAIRS)
def test_tracing_gives_the_same_as_calling(name: str, index: int) -> None:
    approximation, case = registry.approximation(name), CASES[index]
    for options in members_of(name, index)[:2]:
        traced = trace(approximation, case, attributes_of(index), options)
        called = approximation.function(*case.tensors, **attributes_of(index), **options)
        torch.testing.assert_close(traced(*case.tensors), called, rtol=0, atol=0)


def trace(approximation: Approximation, case: Case, attributes: dict[str, Any], options: Options) -> fx.GraphModule:
    """The expansion: a graph of nothing but primitives and views."""
    graph = fx.Graph()
    recorder = Recorder(graph)
    nodes = []
    for position, tensor in enumerate(case.tensors):
        node = graph.placeholder(f"x{position}")
        node.meta["val"] = nn.meta_tensor(tensor)
        nodes.append(node)
    graph.output(recorder.call(approximation.function, *nodes, **attributes, **options))
    allowed = {*mpc.PRIMITIVES.values(), *mpc.VIEWS}
    assert all(node.target in allowed for node in graph.nodes if node.op == "call_function")
    return fx.GraphModule(torch.nn.Module(), graph)


@pytest.mark.parametrize(("name", "index"), PAIRS)
def test_members_are_plain_json_and_the_same_every_time(name: str, index: int) -> None:
    members = members_of(name, index)
    assert json.loads(json.dumps(list(members))) == list(members)
    assert list(registry.approximation(name).candidates(statistics_of(index))) == list(members)
    texts = [json.dumps(member, sort_keys=True) for member in members]
    assert len(set(texts)) == len(texts), "a member twice"


def test_every_operator_with_attributes_passes_them_by_name() -> None:
    for index, case in enumerate(CASES):
        assert set(attributes_of(index)) <= set(ATTRIBUTES.get(case.operator, ()))
