"""Fixed-point emulation: the online program run as the leading party, on totals and with zero masks, many calls at once.

    Emulator(program)(image)                     one call: the outputs as floats
    Emulator(program).calls(images)              images [calls, *shape]: outputs [calls, *shape]

The same kernels and truncations as the secure run; the two differ by at most one unit at each truncation, and by the noise
on the outputs (`Program.flood`), which this is without. What is
shorter gives the same integers: with zero masks the dealer's tables say that nothing is borrowed, so a comparison is the
bit of the difference above the window, wrong outside the window exactly where the secure one is.

Kernels run one after another whatever the batch, so calls share their overhead: `torch.func.vmap` adds a leading
dimension that the program, whose shapes are static, does not know of. Batches run side by side in as many threads as torch
has (`torch.set_num_threads`), each by itself on one core: kernels are too short to be shared out well.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, fx

from mpcc.ir import online
from mpcc.ir.comparison_circuit import WINDOW_BITS
from mpcc.ir.info import scale_of
from mpcc.ir.nn import size_of
from mpcc.program.program import Program, encode_tensor

from .evaluate import Compiled, Step, compile_steps, decode, encode_weights
from .flatten import flattened
from .prepared import Prepared

ELEMENTS_AT_ONCE = 1 << 17
"""Of the largest value that an opening has, over all calls of a batch: larger ones leave the processor's cache."""
MOST_CALLS = 32
ELEMENTS_ON_A_GPU, MOST_CALLS_ON_A_GPU = 1 << 25, 1024
"""There a batch fills the device: 256 MB for a value as large, of which few live at a time."""
MOST_CUT = 8

Kept = dict[str, Tensor]
Part = TypeVar("Part")
Made = TypeVar("Made")


class Emulator:
    """A program made ready for many inputs. `at_once` calls share one pass over the program.

    `device`: where it computes, the same integers everywhere; what calls give is on the host again.
    """

    def __init__(self, program: Program, device: torch.device | str = "cpu") -> None:
        self.program, self.device = program, torch.device(device)
        weights = {name: weight.to(self.device) for name, weight in encode_weights(program).items()}
        self.kernels = _Kernels(weights.values())
        flat = flattened(program.online)
        self.steps = _replaced(compile_steps(replace(program, online=flat), 0), self.kernels)
        read = {node.name for node in flat.graph.nodes}  # openings that nothing reads are gone
        self.opened = [[name for name in message.opens if name in read] for message in program.messages]
        largest = max((size_of(n) for n in program.online.graph.nodes if n.target is online.open_), default=1)
        elements, most = (ELEMENTS_AT_ONCE, MOST_CALLS) if self.on_cpu else (ELEMENTS_ON_A_GPU, MOST_CALLS_ON_A_GPU)
        self.at_once = min(most, max(1, elements // max(1, largest)))
        self.env: dict[str, Any] = dict(weights)
        self.env.update({share: None for share, _ in program.correlations})
        for node in program.online.graph.nodes:
            if node.target is online.open_weight:  # masked with zero: the weight itself
                masked = node.args[0]
                assert isinstance(masked, fx.Node)
                self.env[node.name] = self.env[str(masked.args[0])]
        _run(self.steps.setup, self.env, {}, ())
        _run(self.steps.offline, self.env, {}, ())

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Float outputs for float inputs of the program's shapes."""
        found, _ = self._one_call([value.to(self.device) for value in inputs], ())
        return [value.cpu() for value in found]

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"

    def calls(self, *columns: Tensor) -> list[Tensor]:
        """Float outputs [calls, *shape] for float inputs [calls, *shape]."""
        return self.watched(columns, ())[0]

    def watched(self, columns: Sequence[Tensor], names: Collection[str]) -> tuple[list[Tensor], Kept]:
        """The outputs, and the integers of the named nodes [calls, *shape]."""

        def one_call(*inputs: Tensor) -> tuple[tuple[Tensor, ...], Kept]:
            return self._one_call(inputs, names)

        @torch.no_grad()
        def batch(part: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Kept]:
            found: tuple[tuple[Tensor, ...], Kept] = torch.func.vmap(one_call)(*(value.to(self.device) for value in part))
            return tuple(value.cpu() for value in found[0]), {name: value.cpu() for name, value in found[1].items()}

        calls, threads = len(columns[0]), torch.get_num_threads() if self.on_cpu else 1
        length = max(1, min(self.at_once, math.ceil(calls / threads)))
        found = side_by_side(batch, list(zip(*(torch.split(column, length) for column in columns), strict=True)), threads)
        outputs = [torch.cat(parts) for parts in zip(*(outputs for outputs, _ in found), strict=True)]
        return outputs, {name: torch.cat([kept[name] for _, kept in found]) for name in found[0][1]}

    def _one_call(self, inputs: Sequence[Tensor], names: Collection[str]) -> tuple[tuple[Tensor, ...], Kept]:
        env, kept = dict(self.env), Kept()
        self.kernels.cut.clear()
        for node, value in zip(self.program.inputs(), inputs, strict=True):
            env[node.name] = encode_tensor(value, scale_of(node))
        for index, segment in enumerate(self.steps.segments):
            _run(segment, env, kept, names)
            for name in self.opened[index] if index < len(self.opened) else ():
                env[name] = env[str(self.program.nodes[name].args[0])]
        found = [(env[str(self.program.nodes[name].args[0])], scale) for name, scale in self.program.outputs]
        self.kernels.cut.clear()
        return tuple(decode(total, scale) for total, scale in found), kept


def side_by_side(function: Callable[[Part], Made], parts: Sequence[Part], threads: int) -> list[Made]:
    """`function` of every part, in order. Threads suffice: torch gives up Python's lock while it computes."""
    if threads == 1 or len(parts) == 1:
        return [function(part) for part in parts]
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            return list(pool.map(function, parts))
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


def _run(steps: Sequence[Step], env: dict[str, Any], kept: Kept, names: Collection[str]) -> None:
    for step in steps:
        step.run(env)
        if step.name in names:
            kept[step.name] = env[step.name]


# ---- kernels that are shorter here: bits are not packed, products of matrices go through float64 ----------------


def _leaf(c: Tensor, threshold: int, low: int, tables: Any, sign: Any, *, lead: bool = True) -> Tensor:
    """[X < threshold]: the bit above the window of (X - threshold) >> low."""
    return (c.reshape(-1) - threshold) >> (low + WINDOW_BITS) & 1


def _same(bits: Tensor, *rest: Any, **options: Any) -> Tensor:
    return bits


def _number(bits: Tensor, beta: Any, shape: Sequence[int], *, lead: bool = True) -> Tensor:
    return bits.reshape(tuple(shape))


def _product(kind: str, cx: Tensor, cy: Tensor, rx: Any, ry: Any, rxy: Any, *attributes: Any, lead: bool = True) -> Tensor:
    """bilinear(X, Y)."""
    return online.product(kind, cx, cy, None, None, None, *attributes)


def _nearest(x: Tensor, bits: int, lead: bool = True) -> Tensor:
    """X >> bits to the nearest: two parties that cut their shares are above or below it, on average at the value."""
    return (x + (1 << (bits - 1))) >> bits


UNPACKED: Mapping[Callable[..., Any], Callable[..., Any]] = {
    online.truncate_locally: _nearest,
    online.leaves: _leaf,
    online.planes: _same,
    online.mask_bits: _same,
    online.and_planes: _same,
    online.bit_number: _number,
    online.flooded: _same,
}


class _Kernels:
    """What stands for each kernel; `select` keeps truncated values, which the pieces of a spline share."""

    def __init__(self, weights: Collection[Tensor]) -> None:
        self.prepared = Prepared(weights)
        self.threads = threading.local()

    @property
    def cut(self) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
        """(opening, bits) -> the opening, what is left: of the call that this thread runs."""
        kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = self.threads.__dict__.setdefault("cut", {})
        return kept

    def of(self, target: Callable[..., Any]) -> Callable[..., Any]:
        if target is online.select:
            return self.select
        if target in self.prepared.kernels:
            return self.prepared.kernels[target]
        return _product if target is online.product else UNPACKED.get(target, target)

    def select(
        self, bits: Tensor, beta: Any, c: Tensor, f: int, rho: Any, b: Any, beta_rho: Any, beta_b: Any, *ring: int,
        lead: bool = True,
    ) -> Tensor:  # fmt: skip
        """bit * u."""
        cut = self.cut
        if (id(c), f) not in cut:
            if len(cut) >= MOST_CUT:
                cut.clear()
            cut[id(c), f] = c, online.truncated(c, f, None, None, *ring) if f else c
        return bits.reshape(c.shape) * cut[id(c), f][1]


def errors(found: Tensor, expected: Tensor) -> dict[str, float]:
    """How far outputs are from the float model's, and on what part of them the greatest value is the same."""
    difference, same = (found - expected).abs(), found.argmax(-1) == expected.argmax(-1)
    return {
        "max_error": float(difference.max()),
        "mean_error": float(difference.mean()),
        "top1_agreement": float(same.float().mean()),
        "images": float(same.numel()),
    }


def _replaced(compiled: Compiled, kernels: _Kernels) -> Compiled:
    def made(steps: Sequence[Step]) -> list[Step]:
        return [replace(step, target=kernels.of(step.target)) for step in steps]

    segments = [made(segment) for segment in compiled.segments]
    return Compiled(made(compiled.setup), made(compiled.offline), segments, compiled.exchanges)
