"""What one unit at each truncation does to the outputs: the program in real numbers, differentiated.

    u = X / 2^f + e         steps: for each element of every e, the squared length of d outputs / d e, in the outputs' units

A truncation is off by a unit or not, depending on the low bits of X and of what the client sees (see `flood`), so e is 0 or
1 up to a constant. A truncated opening is one step however many kernels read it, and a view shows the steps of its base.
Comparisons are constants here: the functions that they make up are continuous at their thresholds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir import curve, online
from mpcc.ir.info import scale_of, weight_of
from mpcc.ir.mpc import VIEWS
from mpcc.ir.nn import size_of
from mpcc.ir.ring import bilinear
from mpcc.program.program import Program, encode_tensor

REAL = torch.float32
"""No value reaches 2^64, no derivative 2^-64 of what matters: far inside its range, and a factor of two is all that counts."""
PROBES = 16
"""Directions that are differentiated: all of up to 16 output values; of more, random signs, whose mean square is the length's."""


VALUES_A_PART = 1 << 24
"""Of all nodes together: the graph is differentiated in parts, from the last to the first, so that what backward needs of one
part (some ten times its values) is all that is held."""

FOLLOWED = VIEWS | {online.gather, online.apply_mask, online.scale_rows}
"""What is cut by way of the value that it reads (`_Run.cut`)."""

Key = fx.Node | tuple[fx.Node, int]
"""A node, or an opening cut by some bits."""


def squared_steps(
    program: Program, inputs: Sequence[Tensor], most: int = VALUES_A_PART
) -> tuple[dict[tuple[fx.Node, int], Tensor], Tensor]:
    """(squared lengths by what is truncated and by how many bits, the outputs [values]) at one call's inputs.

    `most`: values of a part. What crosses from one to the next is kept, and what the outputs' slopes there are.
    """
    last = _last_reads(program)
    parts = [part for part in _parts(program, last, most) if part]
    run = _Run(program, inputs)
    before: list[dict[Key, Any]] = [{}]
    with torch.no_grad():
        for part in parts[:-1]:
            run.through(part, last)
            before.append(run.alive)
    del run
    found: list[dict[tuple[fx.Node, int], Tensor]] = []
    slopes: dict[Key, Tensor] = {}
    outputs = torch.empty(0)
    for number in reversed(range(len(parts))):
        with torch.enable_grad():
            given = {key: _leaf(value) for key, value in before.pop().items()}
            run = _Run(program, inputs, given)
            run.through(parts[number], last)
            made = {key: value for key, value in run.alive.items() if key in slopes and key not in given}
            seeds = {key: slopes.pop(key) for key in made}
            ends = list(made.values())
            if number == len(parts) - 1:
                outputs = torch.cat([(run.env[program.nodes[name]] / scale).reshape(-1) for name, scale in program.outputs])
                ends, seeds = [outputs], {program.online.graph.output_node(): _probes(len(outputs))}
            found.append(_pulled(run, given, ends, list(seeds.values()), slopes, len(outputs)))
    return {key: square for part in reversed(found) for key, square in part.items()}, outputs.detach()


def _pulled(
    run: _Run, given: Mapping[Key, Any], ends: Sequence[Tensor], seeds: Sequence[Tensor], slopes: dict[Key, Tensor], count: int
) -> dict[tuple[fx.Node, int], Tensor]:
    """The steps of a part, from the slopes at its ends; those at its beginning are added to `slopes`. `count` of outputs."""
    steps, total = list(run.steps.values()), {key: torch.zeros(step.shape) for key, step in run.steps.items()}
    pairs = [(end, seed) for end, seed in zip(ends, seeds, strict=True) if end.requires_grad]
    starts = {key: value for key, value in given.items() if isinstance(value, Tensor) and value.requires_grad}
    probes = len(pairs[0][1]) if pairs else 0
    for probe in range(probes):
        found: Sequence[Tensor | None] = torch.autograd.grad(
            [end for end, _ in pairs], [*steps, *starts.values()], [seed[probe].reshape(end.shape) for end, seed in pairs],
            retain_graph=probe < probes - 1, allow_unused=True,
        )  # fmt: skip
        for key, slope in zip((*run.steps, *starts), found, strict=True):
            if slope is None:
                continue
            if key in total:
                total[key] += slope.square() if count <= PROBES else slope.square() / probes
                continue
            if key not in slopes:
                slopes[key] = torch.zeros(probes, *slope.shape)
            slopes[key][probe] += slope
    return total


def _leaf(value: Any) -> Any:
    return value.detach().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else value


def _parts(program: Program, last: Mapping[fx.Node, int], most: int) -> Iterator[list[fx.Node]]:
    """The nodes that compute something, in order, cut where least is still to be read.

    A part has so many values, or more where every cut would cost more: slopes are kept of each probe."""
    nodes, part, values = list(program.online.graph.nodes), list[fx.Node](), 0
    alive, ends, least = 0, defaultdict[int, int](int), (math.inf, 0)
    for place, node in enumerate(nodes):
        if node.op != "call_function":
            continue
        part.append(node)
        values += size_of(node)
        alive += size_of(node) - ends[place]
        ends[last[node]] += size_of(node)
        if values > most / 4 and alive <= least[0]:
            least = (alive, len(part))
        if values > most and PROBES * least[0] <= values:
            yield part[: least[1]]
            part, least = part[least[1] :], (math.inf, 0)
            values = sum(map(size_of, part))
    yield part


def _last_reads(program: Program) -> dict[fx.Node, int]:
    """Node -> place of the last node that reads it, or what is cut of it: a view's reader cuts the view's base."""
    nodes = list(program.online.graph.nodes)
    place, last = {node: index for index, node in enumerate(nodes)}, dict[fx.Node, int]()
    for node in reversed(nodes):
        own = [max(place[user], last[user] if user.target in FOLLOWED else 0) for user in node.users]
        last[node] = max(own, default=place[node])
    for name, _ in program.outputs:
        last[program.nodes[name]] = len(nodes)
    return last


def _probes(count: int) -> Tensor:
    if count <= PROBES:
        return torch.eye(count, dtype=REAL)
    generator = torch.Generator().manual_seed(0)  # no secret: the same program has the same size of flood each time
    return torch.randint(0, 2, (PROBES, count), generator=generator).to(REAL) * 2 - 1


class _Given(dict[fx.Node, Any]):
    """Values of nodes as real numbers. Inputs and weights are made when they are read: a model's weights are never all here."""

    def __init__(self, program: Program, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.program, self.inputs = program, dict(zip(program.inputs(), inputs, strict=True))

    def __missing__(self, node: fx.Node) -> Tensor | None:
        if node in self.inputs:
            return self.inputs[node].to(REAL) * scale_of(node)
        weight = weight_of(node)
        assert weight is not None or node.op == "placeholder", node
        return None if weight is None else encode_tensor(self.program.constants[weight.constant], weight.scale).to(REAL)


class _Run:
    """The values of the nodes, as real numbers; what exists for the masks' sake alone is None. `given`: what was made before."""

    def __init__(self, program: Program, inputs: Sequence[Tensor], given: Mapping[Key, Any] | None = None) -> None:
        self.steps: dict[tuple[fx.Node, int], Tensor] = {}
        self.env = _Given(program, inputs)
        self.cuts: dict[tuple[fx.Node, int], Tensor] = {}
        self.places = {node: place for place, node in enumerate(program.online.graph.nodes)}
        for key, value in (given or {}).items():
            if isinstance(key, tuple):
                self.cuts[key] = value
            else:
                self.env[key] = value

    def through(self, part: Sequence[fx.Node], last: Mapping[fx.Node, int]) -> None:
        """Run the nodes of a part; what nothing reads any more is dropped."""
        for node in part:
            self.env[node] = self._value(node)
            place = self.places[node]
            for done in [key for key in (*self._bases(node), node) if last[key] <= place]:
                self.env.pop(done, None)
                for key in [key for key in self.cuts if key[0] is done]:
                    del self.cuts[key]

    def _bases(self, node: fx.Node) -> Iterator[fx.Node]:
        """What a node reads, and what these are views of."""
        for operand in node.all_input_nodes:
            yield operand
            if operand.target in FOLLOWED:
                yield from self._bases(operand)

    @property
    def alive(self) -> dict[Key, Any]:
        """All that later nodes read."""
        found: dict[Key, Any] = {}
        found.update(self.env.items())
        found.update(self.cuts.items())
        return found

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
    return run.env[x] if weight_of(x) is None else None  # masked weights are only multiplied with masks


def _product(run: _Run, kind: str, x: fx.Node, y: fx.Node, rx: Any, ry: Any, rxy: Any, attributes: Any = ()) -> Tensor:
    return bilinear(kind, run.env[x], run.env[y], attributes)


def _weight_product(run: _Run, kind: str, x: fx.Node, weight: fx.Node, rw: Any, attributes: Any = ()) -> Tensor:
    return bilinear(kind, run.env[x], run.env[weight], attributes)


def _public_product(run: _Run, kind: str, x: fx.Node, weight: fx.Node, attributes: Any = ()) -> Tensor | None:
    return None if run.env[x] is None else bilinear(kind, run.env[x], run.env[weight], attributes)


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
    here, after = (_piece(rows, (place + k).long() & last, x - place - k) for k in (0, 1))
    return here + (after - here).detach() * run._step(node, 0, here)


def _piece(rows: Tensor, number: Tensor, t: Tensor) -> Tensor:
    """Of 1, t, t^2 ...; rows [degree + 1, pieces], beyond which there is 0."""
    there, number = number < rows.shape[1], number.clamp(max=rows.shape[1] - 1)
    found = torch.zeros_like(t)
    for row in rows.flip(0):
        found = found * t + row[number]
    return found * there


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
    online.public_product: _public_product,
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
