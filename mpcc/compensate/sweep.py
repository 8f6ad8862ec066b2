"""One pass over a graph as it was and as it is now, side by side: products behind changed sites are solved anew on the way.

Values of all calls are kept of a node for as long as something is still to read them, and no longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.calibration.ranges import ELEMENTS_AT_ONCE
from mpcc.ir.nn import attribute, shape_of, size_of

from .descent import Block, Descent, block_of
from .eligible import eligible
from .ridge import STRENGTHS, Normal, best_strength
from .rows import as_matrix, as_weight, bias_of, given_rows, read_rows, weight_of
from .targets import Target, target_of

aten = torch.ops.aten
Function = Callable[..., Any]
Tell = Callable[[int, int], None]
"""Is told how many products are solved, of how many."""
ROWS_AT_ONCE = 1 << 22
"""Values of a batch of rows in double precision: 32 MB."""
MANY_FEATURES = 1024
"""Beyond, every third lambda is tried: a solve takes seconds."""
GAIN = 0.005
"""Least share of the held-apart error by which new weights must be better to be taken."""


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Calls:
    """The calls of a sweep: the first `fit` make the equations, the next `tune` choose lambda and whether a solve is taken; what
    is behind them is only carried along. Where none are to fit, nothing is solved.
    `steps` of gradient follow the solve at the end of each block (`descent`)."""

    columns: tuple[Tensor, ...]
    fit: int
    tune: int
    steps: int = 0


@dataclass(frozen=True)
class Solved:
    """A product that was solved: its error on the calls held apart, as shares of the target's mean square, and lambda."""

    weight: str
    before: float
    after: float
    strength: float


@dataclass
class Sweep:
    """`outputs_as_was` and `outputs`: [calls, ...] of each output; `weights`: name -> new value; `skipped`: weight -> why."""

    outputs_as_was: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    weights: dict[str, Tensor] = field(default_factory=dict)
    solved: list[Solved] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def sweep(
    graph: fx.GraphModule, calls: Calls, changed: Sequence[fx.Node], at_site: Callable[..., Function], tell: Tell = _silent
) -> Sweep:
    """Solve every product behind the `changed` sites. `at_site(node, see)` gives what a node computes now; `see(look)` what
    `look` makes of the node's arguments in every call."""
    return _Walk(graph, calls, changed, at_site, tell).run()


Key = tuple[bool, fx.Node]
"""(as it is now, node): False is the graph as it was, which is also where nothing has changed."""


class _Walk:
    def __init__(
        self, graph: fx.GraphModule, calls: Calls, changed: Sequence[fx.Node], at_site: Callable[..., Function], tell: Tell
    ) -> None:
        self.graph, self.calls, self.at_site, self.tell, self.found = graph.graph, calls, at_site, tell, Sweep()
        self.nodes = [node for node in graph.graph.nodes if node.op == "call_function"]
        self.order = {node: place for place, node in enumerate(graph.graph.nodes)}
        self.constants = {n: attribute(graph, str(n.target)).detach() for n in graph.graph.nodes if n.op == "get_attr"}
        self.now: dict[fx.Node, Tensor] = {}  # weights that differ
        self.secret = self._descendants([n for n in graph.graph.nodes if n.op == "placeholder"])
        self.affected = self._descendants([node for node in changed if node in self.secret])
        self.targets = self._targets() if calls.fit else {}
        self.blocks = self._blocks() if calls.steps else {}
        self.functions: dict[fx.Node, Function] = {}  # of sites, as they are now
        result = next(node for node in graph.graph.nodes if node.op == "output").args[0]
        self.results = list(result) if isinstance(result, (tuple, list)) else [result]
        self.values: dict[Key, Tensor] = {}
        inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
        self.values |= {(False, node): column for node, column in zip(inputs, calls.columns, strict=True)}
        self.left = self._counted()
        self.ahead = 0

    def _descendants(self, roots: Sequence[fx.Node]) -> set[fx.Node]:
        found = set(roots)
        for node in self.nodes:
            if any(operand in found for operand in node.all_input_nodes):
                found.add(node)
        return found

    def _targets(self) -> dict[fx.Node, Target]:
        """Every product that is to be solved."""
        found, skipped = eligible(self.graph, self.secret, self.affected)
        self.found.skipped |= skipped
        return {node: target_of(node, self.order) for node in found}

    def _blocks(self) -> dict[fx.Node, Block]:
        """The block of every product whose output is added to something, where there is more of it than the product."""
        ends = [node for node, target in self.targets.items() if target.others]
        found = {node: block_of(node, self.secret, self.affected) for node in ends}
        return {node: block for node, block in found.items() if len(block.nodes) > 1}

    # -- what is read, and how often --

    def _key(self, node: fx.Node, now: bool) -> Key:
        return now and node in self.affected, node

    def _reads(self, node: fx.Node, now: bool) -> list[Key]:
        return [self._key(operand, now) for operand in node.all_input_nodes if operand in self.secret]

    def _solve_reads(self, node: fx.Node) -> list[Key]:
        target = self.targets[node]
        others = [self._key(other, True) for other in target.others if other in self.secret]
        outside = [self._key(one, True) for one in self.blocks[node].outside] if node in self.blocks else []
        return [*self._reads(node, True), (False, target.end), *others, *outside]

    def _counted(self) -> Counter[Key]:
        found: Counter[Key] = Counter()
        for node in self.nodes:
            found.update(self._reads(node, False))
            if node in self.affected:
                found.update(self._reads(node, True))
            if node in self.targets:
                found.update(self._solve_reads(node))
        for node in self.results:  # never read for the last time
            found.update([(False, node), self._key(node, True)])
        return found

    def _done_with(self, keys: Sequence[Key]) -> None:
        for key in keys:
            self.left[key] -= 1
            if self.left[key] == 0:
                self.values.pop(key, None)

    # -- the walk --

    @torch.no_grad()
    def run(self) -> Sweep:
        for node in self.nodes:
            if node not in self.affected:
                continue
            self._advance(self.order[node])
            if node in self.targets:
                self._advance(self.order[self.targets[node].end])
                self.tell(len(self.found.solved), len(self.targets))
                self._solve(node)
                if node in self.blocks:
                    self._descend(node)
                self._done_with(self._solve_reads(node))
            self._compute(node, True)
        self._advance(len(self.order))
        self.found.outputs_as_was, self.found.outputs = self._outputs(False), self._outputs(True)
        return self.found

    def _outputs(self, now: bool) -> tuple[Tensor, ...]:
        calls = len(self.calls.columns[0])
        return tuple(
            self.values[self._key(node, now)] if node in self.secret else self.constants[node].expand(calls, *shape_of(node))
            for node in self.results
        )

    def _advance(self, place: int) -> None:
        """The graph as it was, up to a place."""
        while self.ahead < len(self.nodes) and self.order[self.nodes[self.ahead]] <= place:
            self._compute(self.nodes[self.ahead], False)
            self.ahead += 1

    def _compute(self, node: fx.Node, now: bool) -> None:
        function: Any = node.target
        if now:
            function = self.functions[node] = self.at_site(node, lambda look: self._mapped(node, look, True))
        value = self._mapped(node, function, now)
        if node not in self.secret:
            self.constants[node] = value
            return
        if self.left[now, node]:
            self.values[now, node] = value
        self._done_with(self._reads(node, now))

    def _mapped(self, node: fx.Node, function: Function, now: bool) -> Any:
        """`function` of a node's arguments for every call."""
        operands = node.all_input_nodes
        varying = [operand for operand in operands if operand in self.secret]
        fixed = {n: self._constant(n, now) for n in operands if n not in self.secret}

        def one_call(*given: Tensor) -> Any:
            own = fixed | dict(zip(varying, given, strict=True))
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: own[n])
            return function(*args, **kwargs)

        if not varying:
            return one_call()
        chunk = max(1, ELEMENTS_AT_ONCE // max(1, max(size_of(n) for n in (node, *varying))))
        run = torch.func.vmap(one_call, chunk_size=chunk, randomness="error")
        return run(*(self.values[self._key(n, now)] for n in varying))

    def _constant(self, node: fx.Node, now: bool) -> Tensor:
        return self.now[node] if now and node in self.now else self.constants[node]

    # -- one product --

    def _solve(self, node: fx.Node) -> None:
        weight, bias = weight_of(node), bias_of(node)
        assert weight is not None and isinstance(node.args[0], fx.Node)
        first, second = self._equations(node)
        old = as_matrix(node, self.constants[weight]).double()
        old_bias = None if bias is None else self.constants[bias].double().reshape(len(old), -1)
        before = second.error(old, old_bias)
        strengths = STRENGTHS if old.shape[1] <= MANY_FEATURES else STRENGTHS[::3]
        after, strength = best_strength(first, second, old, bias is not None, strengths)
        size = max(float((second.centred() if bias is not None else second).tt.sum()), 1e-300)
        self.found.solved.append(Solved(str(weight.target), before / size, after / size, strength))
        if not after < (1 - GAIN) * before:
            self.found.skipped[str(weight.target)] = "no better on inputs held apart"
            return
        made, shift = (first + second).solved(old, bias is not None, strength)
        self._put(weight, as_weight(node, made))
        if bias is not None and shift is not None:
            self._put(bias, shift.reshape(-1))

    def _descend(self, node: fx.Node) -> None:
        """Move all weights of the block that ends in a product, and compute anew what they give."""
        block, (fit, tune) = self.blocks[node], (self.calls.fit, self.calls.tune)
        products = [one for one in block.nodes if one in self.targets]
        free = [one for product in products for one in (weight_of(product), bias_of(product)) if one is not None]
        values = {one: self.values[self._key(one, True)] for one in block.outside}
        found = Descent(
            block, lambda one: self.functions.get(one, one.target),  # type: ignore[arg-type]
            {**self.constants, **self.now}, free, values, self._target(node, slice(None)),
        ).run(self.calls.steps, fit, tune)  # fmt: skip
        if found is None:
            return
        for constant, value in found.items():
            self._put(constant, value)
        kept = {one for one in block.nodes if (True, one) in self.values}
        for one in block.nodes[:-1]:
            function = self.functions[one] = self.at_site(one, lambda look, one=one: self._mapped(one, look, True))
            self.values[True, one] = self._mapped(one, function, True)
        for one in block.nodes[:-1]:
            if one not in kept:
                del self.values[True, one]

    def _target(self, node: fx.Node, part: slice) -> Tensor:
        """What a product should give, [calls, *shape]."""
        target = self.targets[node]
        others = {
            other: self.values[self._key(other, True)][part] if other in self.secret else self.constants[other]
            for other in target.others
        }
        return target.of(self.values[False, target.end][part], others)

    def _put(self, constant: fx.Node, value: Tensor) -> None:
        self.now[constant] = value.to(self.constants[constant].dtype)
        self.found.weights[str(constant.target)] = self.now[constant]

    def _equations(self, node: fx.Node) -> tuple[Normal, Normal]:
        """Normal equations of the calls that fit, and of those that choose."""
        fit, tune = self.calls.fit, self.calls.tune
        return self._summed(node, 0, fit), self._summed(node, fit, fit + tune)

    def _summed(self, node: fx.Node, start: int, stop: int) -> Normal:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        step = max(1, ROWS_AT_ONCE // max(size_of(node), size_of(source)))
        total: Normal | None = None
        for low in range(start, stop, step):
            part = slice(low, min(low + step, stop))
            read = self.values[self._key(source, True)][part]
            wanted = self._target(node, part)
            made = Normal.of(read_rows(node, read), given_rows(node, wanted))
            total = made if total is None else total + made
        assert total is not None
        return total
