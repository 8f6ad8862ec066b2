"""For every operator that has approximations: inputs that look like a model's, and what the operator gives for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from mpcc.approximate import Approximation, SiteStatistics
from mpcc.calibration.calibrate import calibrate
from mpcc.ir import nn

SITE = "layer"
AFFINE = ("layer_norm", "rms_norm", "group_norm")
"""Operators whose ATen overload takes the weight and bias after the attributes."""


@dataclass(frozen=True, eq=False)
class Case:
    """One operator on `tensors`; `arguments` come after the tensors, as ATen has it; `reference` takes the tensors alone.

    `weight` is what an error of the plain operator is multiplied by at most: the largest weight of a norm.
    """

    operator: str
    tensors: tuple[Tensor, ...]
    reference: Callable[..., Tensor]
    arguments: tuple[Any, ...] = ()
    last_arguments: tuple[Any, ...] = ()
    weight: float = 1.0

    @property
    def site(self) -> str:
        """The name of the only site of the graph."""
        return f"{SITE}.{self.operator}"

    def graph(self) -> fx.GraphModule:
        """An nn-level graph of the one operator; every tensor is an input."""
        graph = fx.Graph()
        nodes = []
        for position, tensor in enumerate(self.tensors):
            node = graph.placeholder(f"x{position}")
            node.meta["val"] = nn.meta_tensor(tensor)
            nodes.append(node)
        first = nodes[:1] if self.operator in AFFINE else nodes
        arguments = (*first, *self.arguments, *nodes[len(first) :], *self.last_arguments)
        call = graph.call_function(nn.SITES[self.operator], arguments)
        value = nn.meta_tensor(self.reference(*self.tensors))
        call.meta = {"val": value, "layer": SITE, "site": self.site}
        graph.output(call)
        return fx.GraphModule(torch.nn.Module(), graph)

    def statistics(self, approximations: Iterable[Approximation] | None = None) -> SiteStatistics:
        """What calibration sees when the tensors are the calibration inputs."""
        return calibrate(self.graph(), [self.tensors], approximations=approximations)[self.site]

    def __str__(self) -> str:
        return f"{self.operator} of {' and '.join(str(list(tensor.shape)) for tensor in self.tensors)}"


def cases_of(operator: str) -> tuple[Case, ...]:
    """The cases of an operator; none if there are none yet."""
    return tuple(case for case in CASES if case.operator == operator)


def _normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + int(100 * scale) + int(10 * shift))
    return torch.randn(shape, generator=generator, dtype=torch.float64) * scale + shift


def _positive(low: float, high: float) -> Tensor:
    return torch.exp(torch.linspace(torch.tensor(low).log(), torch.tensor(high).log(), 4096, dtype=torch.float64))


ROWS = _normal(8, 4, 17, 17, scale=1.2)
TOKENS = _normal(64, 17, 32) * (0.5 + torch.rand((64, 17, 1), generator=torch.Generator().manual_seed(0)))
UNEQUAL = TOKENS * torch.logspace(-1.8, 0.7, 17)[:, None]
WIDE = _normal(64, 64, scale=2.0)
WEIGHT, BIAS = _normal(32, scale=0.3, shift=1.0), _normal(32, scale=0.1)
LARGEST_WEIGHT = float(WEIGHT.abs().max())

CASES = [
    Case("softmax", (ROWS,), lambda x: x.softmax(-1), (-1,)),
    Case("softmax", (ROWS * 2.5,), lambda x: x.softmax(-1), (-1,)),
    Case("softmax", (ROWS.transpose(-1, -2).contiguous() * 0.3,), lambda x: x.softmax(2), (2,)),
    Case("gelu", (WIDE,), F.gelu),
    Case("gelu", (_normal(64, 64, scale=0.6, shift=-0.4),), F.gelu),
    Case("layer_norm", (TOKENS,), lambda x: F.layer_norm(x, (32,)), ((32,),)),
    Case("layer_norm", (UNEQUAL,), lambda x: F.layer_norm(x, (32,)), ((32,),)),
    Case("layer_norm", (TOKENS, WEIGHT, BIAS), lambda x, w, b: F.layer_norm(x, (32,), w, b), ((32,),), (), LARGEST_WEIGHT),
    Case("rms_norm", (TOKENS, WEIGHT), lambda x, w: F.rms_norm(x, (32,), w, 1e-5), ((32,),), (1e-5,), LARGEST_WEIGHT),
    Case("group_norm", (TOKENS.reshape(64, 544, 1, 1)[:, :32], WEIGHT, BIAS),
         lambda x, w, b: F.group_norm(x, 4, w, b), (4,), (), LARGEST_WEIGHT),
    Case("relu", (WIDE,), F.relu),
    Case("silu", (WIDE,), F.silu),
    Case("silu", (WIDE * 0.1,), F.silu),
    Case("hardswish", (WIDE,), F.hardswish),
    Case("hardsigmoid", (WIDE,), F.hardsigmoid),
    Case("sigmoid", (WIDE,), torch.sigmoid),
    Case("tanh", (WIDE,), torch.tanh),
    Case("mish", (WIDE,), F.mish),
    Case("erf", (WIDE,), torch.erf),
    Case("cos", (WIDE,), torch.cos),
    Case("sin", (WIDE,), torch.sin),
    Case("softplus", (WIDE,), F.softplus),
    Case("elu", (WIDE,), F.elu),
    Case("exp", (_normal(64, 64, scale=1.0),), torch.exp),
    Case("exp", (-_normal(64, 64, scale=2.0).abs(),), torch.exp),
    Case("reciprocal", (_positive(0.5, 12.0),), torch.reciprocal),
    Case("reciprocal", (-_positive(1.0, 3.0),), torch.reciprocal),
    Case("sqrt", (_positive(0.5, 12.0),), torch.sqrt),
    Case("rsqrt", (_positive(0.5, 12.0),), torch.rsqrt),
    Case("log", (_positive(0.1, 12.0),), torch.log),
    Case("abs", (WIDE,), torch.abs),
    Case("step", (WIDE,), lambda x: (x > 0).to(x.dtype), (True,)),
    Case("step", (WIDE,), lambda x: (x >= 0).to(x.dtype)),
    Case("clamp", (WIDE,), lambda x: x.clamp(-1.0, 2.0), (-1.0, 2.0)),
    Case("leaky_relu", (WIDE,), lambda x: F.leaky_relu(x, 0.2), (0.2,)),
    Case("maximum", (WIDE, WIDE.T.contiguous()), torch.maximum),
    Case("minimum", (WIDE, WIDE.T.contiguous()), torch.minimum),
    Case("amax", (ROWS,), lambda x: x.amax((2, 3)), ((2, 3),)),
    Case("max_pool2d", (ROWS,), lambda x: F.max_pool2d(x, 3, 2, 1), ((3, 3), (2, 2), (1, 1))),
]  # fmt: skip
