"""What one unit at each truncation does to the outputs: the program in real numbers, differentiated.

    u = X / 2^f + e         steps: for each element of every e, the squared length of d outputs / d e, in the outputs' units

A truncation is off by a unit or not, depending on the low bits of X and of what the client sees (see `flood`), so e is 0 or
1 up to a constant. A truncated opening is one step however many kernels read it, and a view shows the steps of its base.
Comparisons are constants here: the functions that they make up are continuous at their thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir import curve, online
from mpcc.ir.info import input_of, scale_of, weight_of
from mpcc.ir.ring import bilinear
from mpcc.program.program import Program, encode_tensor

REAL = torch.float32
"""No value reaches 2^64, no derivative 2^-64 of what matters: far inside its range, and a factor of two is all that counts."""
PROBES = 16
"""Directions that are differentiated: all of up to 16 output values; of more, random signs, whose mean square is the length's."""


def squared_steps(program: Program, inputs: Sequence[Tensor]) -> tuple[dict[tuple[fx.Node, int], Tensor], Tensor]:
    """(squared lengths by what is truncated and by how many bits, the outputs [values]) at one call's inputs."""
    with torch.enable_grad():
        run = _Run(program, inputs)
        values = [run.env[program.nodes[name]] / scale for name, scale in program.outputs]
        outputs = torch.cat([value.reshape(-1) for value in values])
        steps = list(run.steps.values())
        found = [torch.zeros(step.shape) for step in steps]
        if outputs.requires_grad:
            probes = _probes(len(outputs))
            for probe in probes:
                slopes = torch.autograd.grad(outputs, steps, probe, retain_graph=True, materialize_grads=True)
                for total, slope in zip(found, slopes, strict=True):
                    total += slope.square() if len(outputs) <= PROBES else slope.square() / len(probes)
    return dict(zip(run.steps, found, strict=True)), outputs.detach()


def _probes(count: int) -> Tensor:
    if count <= PROBES:
        return torch.eye(count, dtype=REAL)
    generator = torch.Generator().manual_seed(0)  # no secret: the same program has the same size of flood each time
    return torch.randint(0, 2, (PROBES, count), generator=generator).to(REAL) * 2 - 1


class _Run:
    """The values of the nodes, as real numbers; what exists for the masks' sake alone is None."""

    def __init__(self, program: Program, inputs: Sequence[Tensor]) -> None:
        self.steps: dict[tuple[fx.Node, int], Tensor] = {}
        self.cuts: dict[tuple[fx.Node, int], Tensor] = {}
        self.env: dict[fx.Node, Any] = {}
        given = dict(zip(program.inputs(), inputs, strict=True))
        for node in program.online.graph.nodes:
            if node.op == "placeholder":
                self.env[node] = self._placeholder(program, node, given)
            elif node.op == "call_function":
                self.env[node] = self._value(node)

    def _placeholder(self, program: Program, node: fx.Node, given: Mapping[fx.Node, Tensor]) -> Tensor | None:
        if input_of(node) is not None:
            return given[node].to(REAL) * scale_of(node)
        weight = weight_of(node)
        return None if weight is None else encode_tensor(program.constants[weight.constant], weight.scale).to(REAL)

    def _value(self, node: fx.Node) -> Any:
        target: Any = node.target
        if target is curve.curve:
            return _curve(self, node)
        if target in RULES:
            return RULES[target](self, *node.args)
        arguments: Any = fx.node.map_arg(node.args, self.env.__getitem__)
        if arguments[0] is None:
            return None
        return self.truncated_locally(node) if target is online.truncate_locally else target(*arguments)

    def truncated_locally(self, node: fx.Node) -> Tensor:
        """Each party drops the low bits of its own share: the client knows its own as it knows an opening's."""
        x, bits = node.args
        assert isinstance(x, fx.Node) and isinstance(bits, int)
        real: Tensor = self.env[x] / 2**bits
        return real + self._step(node, bits, real)

    def cut(self, c: fx.Node, f: int) -> Tensor:
        """An opened value, truncated by f bits."""
        if f == 0:
            whole: Tensor = self.env[c]
            return whole
        if (c, f) not in self.cuts:
            if c.target in (online.open_, online.moved):
                real = self.env[c] / 2**f
                self.cuts[c, f] = real + self._step(c, f, real)
            else:
                base, *rest = c.args
                view: Any = c.target
                assert isinstance(base, fx.Node)
                self.cuts[c, f] = view(self.cut(base, f), *rest)
        return self.cuts[c, f]

    def _step(self, node: fx.Node, f: int, like: Tensor) -> Tensor:
        return self.steps.setdefault((node, f), torch.zeros(like.shape, dtype=REAL, requires_grad=True))


# ---- kernels whose arguments are masks too, or which truncate ------------------------------------------------------


def _same(run: _Run, x: fx.Node, *rest: Any) -> Any:
    return run.env[x]


def _product(run: _Run, kind: str, x: fx.Node, y: fx.Node, rx: Any, ry: Any, rxy: Any, attributes: Any = ()) -> Tensor:
    return bilinear(kind, run.env[x], run.env[y], attributes)


def _weight_product(run: _Run, kind: str, x: fx.Node, weight: fx.Node, rw: Any, attributes: Any = ()) -> Tensor:
    return bilinear(kind, run.env[x], run.env[weight], attributes)


def _absent(run: _Run, *rest: Any) -> None:
    return None


def _truncated(run: _Run, c: fx.Node, f: int, *rest: Any) -> Tensor:
    return run.cut(c, f)


def _multilinear(run: _Run, openings: Sequence[fx.Node], shifts: Sequence[int], *rest: Any) -> Tensor:
    first, *others = (run.cut(c, f) for c, f in zip(openings, shifts, strict=True))
    return math.prod(others, start=first)


def _power_sum(run: _Run, c: fx.Node, f: int, coefficients: Sequence[int], *rest: Any) -> Tensor:
    u = run.cut(c, f)
    result = torch.full_like(u, float(coefficients[-1]))
    for a in reversed(coefficients[:-1]):
        result = result * u + float(a)
    return result


def _leaves(run: _Run, c: fx.Node, threshold: int, *rest: Any) -> Any:
    return (run.env[c].detach() < threshold).to(REAL).reshape(-1)


def _curve(run: _Run, node: fx.Node) -> Tensor:
    """The piece that x lies in. Where masks borrow it is the next one: a step as high as the two differ, whatever its bits."""
    c, _, _, depth, low, _, table, units = node.args
    x, last = run.cut(c, 0) / 2**low, (1 << depth) - 1  # type: ignore[arg-type, operator]
    rows = torch.tensor(table, dtype=REAL) * 2 ** torch.tensor(units, dtype=REAL)
    place = x.detach().floor()
    here, after = (sum(row[(place + k).long() & last] * (x - place - k) ** n for n, row in enumerate(rows)) for k in (0, 1))
    assert isinstance(here, Tensor) and isinstance(after, Tensor)
    return here + (after - here).detach() * run._step(node, 0, here)


def _second(run: _Run, opened: Any, x: fx.Node, *rest: Any) -> Any:
    return run.env[x]


def _bit_number(run: _Run, bits: fx.Node, beta: Any, shape: Sequence[int]) -> Any:
    return run.env[bits].reshape(tuple(shape))


def _select(run: _Run, bits: fx.Node, beta: Any, c: fx.Node, f: int, *rest: Any) -> Any:
    u = run.cut(c, f)
    return run.env[bits].reshape(u.shape) * u


def _weight_share(run: _Run, weight: fx.Node, shape: Sequence[int]) -> Any:
    return run.env[weight].expand(tuple(shape))


def _add_weight(run: _Run, x: fx.Node, weight: fx.Node, shape: Sequence[int]) -> Any:
    return run.env[x].expand(tuple(shape)) + run.env[weight]


UNMASKED = (
    online.mask_with, online.mask_bits, online.open_, online.open_bits, online.open_weight, online.planes, online.reveal,
    online.flooded,
)  # fmt: skip
RULES: Mapping[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys(UNMASKED, _same),
    online.product: _product,
    online.weight_product: _weight_product,
    online.mask_weight_product: _absent,
    online.truncated: _truncated,
    online.multilinear: _multilinear,
    online.power_sum: _power_sum,
    online.leaves: _leaves,
    online.and_planes: _second,
    online.bit_number: _bit_number,
    online.select: _select,
    online.weight_share: _weight_share,
    online.add_weight: _add_weight,
}
