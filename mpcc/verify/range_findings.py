"""Range analysis of an mpc-level graph: where a program is unsafe or loses what it computes, with the layer and a remedy.

    for found in findings(model, graph, images):
        print(found)            blocks.3.mlp.gelu (window): ... Remedy: ...

Intervals are those of calibration, inside softmaxes widened to stretched logits; the engine allows for twice that
(`Settings.margin`). Seven things are looked for:

    overflow       values so large that the ring of 64 bits leaves them no fraction bits
    accumulation   a product whose sum is so large that its factors keep too few bits
    constant       an added number that is less than half a unit of the value that it is added to, and would matter
    weight         a tensor so small that it quantises to nothing
    polynomial     one that grows steeply beyond the calibrated range, or whose range is too wide for its degree
    window         a comparison whose window, which spans the range, is too coarse for typical values
    denominator    a reciprocal or a root whose argument has no lower bound

What cannot run at all is refused when it is scheduled (RangeError, UnsupportedOperator); these say why before that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, fx

from mpcc.calibration.calibrate import calibrate
from mpcc.calibration.ranges import Inputs, observe, record_ranges
from mpcc.errors import RangeError
from mpcc.fitting.minimax import POLYNOMIAL_BITS, evaluate
from mpcc.ir import mpc
from mpcc.ir.nn import constant_values, sites
from mpcc.ir.value_range import Range
from mpcc.lowering import Settings
from mpcc.lowering.max_scale_bits import SEEN_MARGIN, least_weight_bits, max_scale_bits, ring_bits
from mpcc.lowering.narrowing import narrowed

LEAST_BITS = 6.0
"""Fraction bits that a value should keep."""
OPERAND_BITS = 8.0
"""Fraction bits that a factor of a product keeps at least (the schedule refuses to cut deeper)."""
WEIGHT_BITS = 24.0
"""The finest that a weight is encoded, and how many significant bits must be left of it."""
WEIGHT_LEAST = 4.0
BEYOND, STEEP = 0.15, 8.0
"""How far beyond its range a polynomial is looked at, and how much larger its values may be there."""
WINDOW_BITS = 16
TYPICAL = 8.0
"""A typical value (the median) must be this many steps of a comparison or of a polynomial."""
MATTERS = 1e-4
NEAR_EPS = 4.0
WHOLE_BITS = 40.0
DENOMINATORS = {
    "reciprocal": "input", "rsqrt": "input", "layer_norm": "variance", "group_norm": "variance", "rms_norm": "mean_square"
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Something that makes a number untrustworthy: where (site or layer), what, and what to do."""

    kind: str
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where} ({self.kind}): {self.what}. Remedy: {self.remedy}"


def findings(
    model: fx.GraphModule | None, graph: fx.GraphModule, inputs: Inputs, settings: Settings | None = None
) -> list[Finding]:
    """What is found in an mpc-level graph on these inputs; `model`, the nn-level graph, is where denominators are seen."""
    margin = (settings or Settings()).margin
    found = [] if model is None else list(_denominators(model, inputs))
    try:
        record_ranges(graph, inputs)
    except RangeError as error:
        remedy = "Find the input that makes it, or rescale the layers before it."
        return [*found, Finding("overflow", error.where or "?", error.what, remedy)]
    constants = constant_values(graph)
    narrow = narrowed(graph.graph, constants, ())
    cap = max_scale_bits(graph.graph, {n: _rms(value) for n, value in constants.items()}, margin, narrow=narrow)
    usual = _typical(graph, inputs)
    for node in graph.graph.nodes:
        if node.op == "call_function" and "range" in node.meta and node not in constants:
            found += _of_node(node, constants, cap, usual, margin)
    return list(dict.fromkeys(found))


def _of_node(
    node: fx.Node,
    constants: Mapping[fx.Node, Tensor],
    cap: Mapping[fx.Node, float],
    usual: Mapping[str, float],
    margin: float,
) -> Iterator[Finding]:
    seen: Range = node.meta["range"]
    bits = ring_bits(node, SEEN_MARGIN)
    if bits < LEAST_BITS:
        what = f"values up to {seen.bound:.3g} leave {bits:.0f} fraction bits in the ring of 64"
        yield Finding("overflow", _where(node), what, "rescale the layer before it, or look for unusual calibration inputs")
    if node.target in (mpc.linear, mpc.conv, mpc.matmul):
        yield from _product(node, constants, margin)
    if node.target in (mpc.add, mpc.sub) and isinstance(node.args[1], int | float):
        yield from _added(node, float(node.args[1]), cap)
    if node.target is mpc.polynomial:
        yield from _polynomial(node, usual)
    if node.target is mpc.less:
        yield from _window(node, usual, margin)


def _product(node: fx.Node, constants: Mapping[fx.Node, Tensor], margin: float) -> Iterator[Finding]:
    room = ring_bits(node, margin)
    weights = [constants[n] for n in node.all_input_nodes[:2] if n in constants]
    need = OPERAND_BITS + (least_weight_bits(_rms(weights[0])) if weights else OPERAND_BITS)
    if need > room:
        what = f"its sums reach {node.meta['range'].bound:.3g}: {room:.0f} bits are left for both factors, which need {need:.0f}"
        yield Finding("accumulation", _where(node), what, "normalise the values before it, or scale its weight down")
    if weights and 0 < _rms(weights[0]) < 2.0 ** (WEIGHT_LEAST - WEIGHT_BITS):
        what = f"a weight of root mean square {_rms(weights[0]):.2g} quantises to less than {WEIGHT_LEAST:.0f} bits"
        yield Finding("weight", _where(node), what, "scale the weight up and the next layer down")


def _added(node: fx.Node, number: float, cap: Mapping[fx.Node, float]) -> Iterator[Finding]:
    source = node.args[0]
    if not isinstance(source, fx.Node) or "range" not in source.meta or number == 0.0:
        return
    seen: Range = source.meta["range"]
    unit = 2.0 ** -min(cap.get(source, WHOLE_BITS), WHOLE_BITS)
    smallest = 0.0 if seen.low <= 0 <= seen.high else min(abs(seen.low), abs(seen.high))
    if abs(number) < unit / 2 and abs(number) > MATTERS * smallest:
        what = f"the constant {number:.3g} is less than half a unit ({unit:.2g}) of what it is added to, which comes near 0"
        yield Finding("constant", _where(node), what, "a larger constant, or values that stay away from 0")


def _polynomial(node: fx.Node, usual: Mapping[str, float]) -> Iterator[Finding]:
    source = node.args[0]
    if not isinstance(source, fx.Node) or "range" not in source.meta:
        return
    seen: Range = source.meta["range"]
    coefficients = [float(c) for c in node.args[1]]  # type: ignore[union-attr, arg-type]
    width, degree = seen.high - seen.low, len(coefficients) - 1
    inside = np.linspace(seen.low, seen.high, 201)
    ends = np.array([seen.low - BEYOND * width, seen.high + BEYOND * width])
    largest, beyond = (float(np.abs(evaluate(coefficients, x)).max()) for x in (inside, ends))
    if beyond > STEEP * max(largest, 2.0**-8):
        span = f"[{seen.low:.3g}, {seen.high:.3g}]"
        what = f"of degree {degree}, it reaches {largest:.3g} on its range {span} and {beyond:.3g} just beyond"
        yield Finding("polynomial", _where(node), what, "calibrate on more inputs, or choose a lower degree")
    step = width * 2.0 ** -(POLYNOMIAL_BITS / max(degree, 1))
    typical = usual[source.name]
    if step > max(typical, 2.0**-14) / TYPICAL:
        what = f"its range [{seen.low:.3g}, {seen.high:.3g}] in steps of {step:.2g} is too coarse for values of {typical:.2g}"
        yield Finding("polynomial", _where(node), what, "a lower degree, or an approximation by pieces")


def _window(node: fx.Node, usual: Mapping[str, float], margin: float) -> Iterator[Finding]:
    source, threshold = node.args[0], float(node.args[1])  # type: ignore[arg-type]
    if not isinstance(source, fx.Node) or "range" not in source.meta:
        return
    seen: Range = source.meta["range"]
    bound = (seen.bound + abs(threshold)) * margin
    step = 2.0 ** (math.ceil(math.log2(max(bound, 2.0**-20))) - WINDOW_BITS)
    typical = usual[source.name]
    if step > max(typical, 2.0**-14) / TYPICAL:
        what = f"values of {typical:.2g} are compared in steps of {step:.2g}, since the window spans [-{bound:.3g}, {bound:.3g}]"
        yield Finding("window", _where(node), what, "remove the few large values (clip, normalise), or a form without comparison")


def _denominators(model: fx.GraphModule, inputs: Inputs) -> Iterator[Finding]:
    statistics = calibrate(model, inputs)
    for name in sites(model):
        site = statistics[name].site
        if site.operator not in DENOMINATORS:
            continue
        seen = statistics[name].ranges[DENOMINATORS[site.operator]]
        eps = float(site.attributes.get("eps") or 0.0)  # type: ignore[arg-type]
        if seen.low <= 0 <= seen.high or seen.low <= NEAR_EPS * eps:
            what = f"its argument comes down to {seen.low:.3g}: nothing keeps it away from 0"
            yield Finding("denominator", name, what, "a larger eps, or a floor that is added before the division")


def _typical(graph: fx.GraphModule, inputs: Inputs) -> dict[str, float]:
    """The median magnitude of what is compared and of what enters a polynomial."""
    read = {n.args[0] for n in graph.graph.nodes if n.target in (mpc.less, mpc.polynomial)}

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        return value.abs().reshape(-1).median() if node in read else None

    return {name: float(medians.median()) for name, medians in observe(graph, inputs, look).items()}


def _rms(value: Tensor) -> float:
    return max(float(value.double().square().mean().sqrt()), 2.0**-60)


def _where(node: fx.Node) -> str:
    return str(node.meta.get("site") or node.meta.get("layer") or node.name)


