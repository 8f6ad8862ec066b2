"""What every plug-in must keep, to be called from the tests of the package that offers it.

    from mpcc.testing.contracts import check_approximation, check_pass

    def test_my_approximation():
        check_approximation(MY_GELU)                    # on inputs that look like a model's, for its operator

    def test_my_pass():
        check_pass(MY_PASS, MyModel(), (x,))            # on a model in which it finds something to do

Each raises AssertionError with the clause that is broken, and where.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

from mpcc import pipeline, registry
from mpcc.approximate import LEVELS, Approximation, Options, SiteStatistics
from mpcc.approximate.expand import expand
from mpcc.ir import mpc, nn, verify_mpc
from mpcc.ir.trace import Recorder
from mpcc.rewrite import Pass, ordered, settle

from .cases import Case, cases_of

SLACK = 1e-9
"""Rounding of float64 in a sum of a few hundred terms."""
EVERYWHERE = (-25.0, 25.0)
"""Where an approximation is looked at that claims to hold for every input."""
WORST = 0.5
"""A bounded candidate that is further off than this, or this share of the largest output, stands for nothing."""
LONGEST_SUMMARY = 110
"""Characters: a line of `mpcc passes`."""
SAME = 2e-6
"""Relative and absolute: an exact pass keeps the real function; its folded parameters are stored in float32."""


def check_approximation(approximation: Approximation, cases: Sequence[Case] | None = None) -> None:
    """The whole contract, by default over all cases of `mpcc.testing.cases` of its operator."""
    cases = cases_of(approximation.operator) if cases is None else cases
    _require(bool(cases), f"there are no cases of {approximation.operator}: give some", approximation)
    is_declared_in_full(approximation, cases)
    for case in cases:
        for clause in CLAUSES:
            clause(approximation, case)


def check_pass(rewrite: Pass, model: Any, example_inputs: Sequence[Any]) -> fx.GraphModule:
    """The whole contract on the graph of a model (anything that `mpcc.capture` takes); that graph after the pass alone.

    For an mpc-level pass the model is expanded as mpcc would without a budget. The pass must change the graph, and must
    come to rest among the installed passes.
    """
    _require(bool(rewrite.source and rewrite.summary), "it declares no source or no summary", rewrite)
    before = pipeline.capture(model, example_inputs)
    if rewrite.graph == "mpc":
        prepared = pipeline.prepare(before, example_inputs)
        before = expand(prepared.graph, pipeline.first_plan(prepared, "bounded"), registry.approximations())
    _require(rewrite(copy.deepcopy(before)).modified, "it changes nothing here: give a model in which it does", rewrite)
    after = check_rewrite(rewrite, before)
    others = [one for one in registry.pass_order(rewrite.graph) if one.name != rewrite.name]
    settled = settle(copy.deepcopy(before), ordered([*others, rewrite]))
    _same_function(rewrite, before, settled)
    return after


def check_rewrite(rewrite: Pass, before: fx.GraphModule) -> fx.GraphModule:
    """What a pass keeps of any valid graph of its level, whether it finds something to do or not; the graph after it."""
    result = rewrite(copy.deepcopy(before))
    after: fx.GraphModule = result.graph_module
    _same_function(rewrite, before, after)
    _valid(rewrite, after)
    old = {node.name for node in before.graph.nodes}
    for node in after.graph.nodes:
        if node.op == "call_function":
            known = node.name in old or rewrite.name in node.meta.get("made_by", ())
            _require("layer" in node.meta and known, f"{node.name} does not say where it comes from (use `Edit`)", rewrite)
    _require(set(_sites(after)) <= set(_sites(before)), "it renames sites, which plans refer to", rewrite)
    unread = set(after.state_dict()) - {str(node.target) for node in after.graph.nodes if node.op == "get_attr"}
    _require(not result.modified or unread <= _unread(before), f"nothing reads {sorted(unread)} any more", rewrite)
    _require(not rewrite(copy.deepcopy(after)).modified, "it changes its own result (not idempotent)", rewrite)
    return after


# --------------------------------------------------------------------------------------------- clauses of approximations


def is_declared_in_full(approximation: Approximation, cases: Sequence[Case]) -> None:
    """Name, level, source and a short summary; it applies to some case, and `trained` and `layout` name options."""
    _require(approximation.level in LEVELS, f"there is no level {approximation.level!r}", approximation)
    _require(bool(approximation.source), "it declares no source", approximation)
    short = 0 < len(approximation.summary) < LONGEST_SUMMARY
    _require(short, f"its summary is empty or longer than {LONGEST_SUMMARY} characters", approximation)
    found = [options for case in cases for options in candidates_of(approximation, case)]
    _require(bool(found), "it has no candidate in any case", approximation)
    for name in (*approximation.trained, *([approximation.layout] if approximation.layout else [])):
        _require(any(name in options for options in found), f"no candidate has the option {name!r} that it names", approximation)


def keeps_its_declared_error(approximation: Approximation, case: Case) -> None:
    """On the tensors of the case; only structural ones may declare none, and bounded ones must be near their operator."""
    expected = case.reference(*case.tensors)
    worst = WORST * max(1.0, float(expected.abs().max()))
    for options in candidates_of(approximation, case):
        found, declared = run(approximation, case, options), approximation.error(options)
        _require(found.shape == expected.shape, f"{case}: its result has the shape {list(found.shape)}", approximation)
        if declared is None:
            _require(approximation.level == "structural", "only a structural approximation declares no error", approximation)
            continue
        off = float((found - expected).abs().max())
        _require(off <= declared * case.weight + SLACK, _off(case, options, off, declared), approximation)
        near = approximation.level != "bounded" or declared <= worst
        _require(near, f"{case}: an error of {declared:.3g} is too large to be bounded: declare it structural", approximation)


def keeps_its_declared_error_on_its_domain(approximation: Approximation, case: Case) -> None:
    """From end to end of the domain of an elementwise operator, not only where the case has values."""
    if len(case.tensors) > 1 or case.arguments or case.reference(*case.tensors).shape != case.tensors[0].shape:
        return
    for options in candidates_of(approximation, case):
        declared = approximation.error(options)
        if declared is not None:
            low, high = approximation.domain(options).get("input", EVERYWHERE)
            x = torch.linspace(low, high, 50_001, dtype=torch.float64)
            found = approximation.function(x, **attributes_of(approximation, case), **options)
            off = float((found - case.reference(x)).abs().max())
            _require(off <= declared + SLACK, _off(case, options, off, declared), approximation)


def covers_what_calibration_saw(approximation: Approximation, case: Case) -> None:
    """The domain names quantities that calibration measures, and contains all values that it saw."""
    seen = statistics_of(approximation, case).ranges
    for options in candidates_of(approximation, case):
        for quantity, (low, high) in approximation.domain(options).items():
            _require(quantity in seen, f"{case}: calibration does not measure {quantity!r}; declare it", approximation)
            slack, found = 1e-3 * (high - low), seen[quantity]
            inside = low - slack <= found.low <= found.high <= high + slack
            _require(inside, f"{case}: {quantity} in [{found.low:.4g}, {found.high:.4g}] leaves its domain", approximation)


def traces_to_what_it_computes(approximation: Approximation, case: Case) -> None:
    """The expansion holds primitives and views only and computes what `function` does; `exact_form` runs on tensors."""
    for options in candidates_of(approximation, case)[:2]:
        found, traced = run(approximation, case, options), trace(approximation, case, options)(*case.tensors)
        _require(bool((found == traced).all()), f"{case}: traced, it computes something else", approximation)
        exact = run(approximation, case, approximation.exact_form(options))
        _require(exact.shape == found.shape, f"{case}: its exact form gives another shape", approximation)


def has_plain_options(approximation: Approximation, case: Case) -> None:
    """Options are JSON, no two candidates are the same, and the same statistics give the same candidates."""
    found = list(candidates_of(approximation, case))
    texts = [json.dumps(options, sort_keys=True) for options in found]
    _require([json.loads(text) for text in texts] == found, f"{case}: its options do not survive JSON", approximation)
    _require(len(set(texts)) == len(texts), f"{case}: a candidate twice", approximation)
    again = list(approximation.candidates(statistics_of(approximation, case)))
    _require(again == found, f"{case}: other candidates the second time", approximation)


CLAUSES = (
    keeps_its_declared_error,
    keeps_its_declared_error_on_its_domain,
    covers_what_calibration_saw,
    traces_to_what_it_computes,
    has_plain_options,
)


@cache
def statistics_of(approximation: Approximation, case: Case) -> SiteStatistics:
    """What calibration sees in a case, with the quantities that the approximation declares, installed or not."""
    if registry.approximations().get(approximation.name) is approximation:
        return _installed(case)
    return case.statistics([*registry.approximations().values(), approximation])


@cache
def _installed(case: Case) -> SiteStatistics:
    return case.statistics()


@cache
def candidates_of(approximation: Approximation, case: Case) -> tuple[Options, ...]:
    """Its candidates for what calibration sees in a case."""
    return approximation.candidates(statistics_of(approximation, case))


def attributes_of(approximation: Approximation, case: Case) -> dict[str, Any]:
    """The operator's own arguments, by name."""
    return dict(statistics_of(approximation, case).site.attributes)


def run(approximation: Approximation, case: Case, options: Options) -> Tensor:
    """The function on the tensors of a case."""
    result: Tensor = approximation.function(*case.tensors, **attributes_of(approximation, case), **options)
    return result


def trace(approximation: Approximation, case: Case, options: Options) -> fx.GraphModule:
    """The expansion; AssertionError where it is more than primitives and views."""
    graph = fx.Graph()
    nodes = []
    for position, tensor in enumerate(case.tensors):
        node = graph.placeholder(f"x{position}")
        node.meta["val"] = nn.meta_tensor(tensor)
        nodes.append(node)
    graph.output(Recorder(graph).call(approximation.function, *nodes, **attributes_of(approximation, case), **options))
    _only_primitives(approximation, graph)
    return fx.GraphModule(torch.nn.Module(), graph)


def _off(case: Case, options: Options, off: float, declared: float) -> str:
    return f"{case}: {off:.3g} off, but it declares {declared:.3g} for {dict(options)}"


# ----------------------------------------------------------------------------------------------------- clauses of passes


def _same_function(rewrite: Pass, before: fx.GraphModule, after: fx.GraphModule) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [nn.shape_of(node) for node in before.graph.nodes if node.op == "placeholder"]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    with torch.no_grad():
        expected, found = copy.deepcopy(before).double()(*inputs), _Shapes(copy.deepcopy(after).double(), rewrite).run(*inputs)
    torch.testing.assert_close(found, expected, rtol=SAME, atol=SAME, msg=lambda text: f"{rewrite.name}: {text}")


class _Shapes(fx.Interpreter):
    """Runs a graph and compares every shape with the one that the node declares."""

    def __init__(self, graph_module: fx.GraphModule, rewrite: Pass) -> None:
        super().__init__(graph_module)
        self.rewrite = rewrite

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op == "call_function" and isinstance(value, Tensor):
            declared = n.meta.get("val")
            right = isinstance(declared, Tensor) and declared.shape == value.shape
            _require(right, f"{n.name} has the shape {list(value.shape)}, not the declared one", self.rewrite)
        return value


def _valid(rewrite: Pass, graph_module: fx.GraphModule) -> None:
    if rewrite.graph == "nn":
        nn.verify(graph_module)
    else:
        _only_primitives(rewrite, graph_module.graph)
        verify_mpc.verify(graph_module)


def _only_primitives(plugin: Approximation | Pass, graph: fx.Graph) -> None:
    allowed = {*mpc.PRIMITIVES.values(), *mpc.VIEWS}
    foreign = [str(node.target) for node in graph.nodes if node.op == "call_function" and node.target not in allowed]
    _require(not foreign, f"{', '.join(foreign)} is neither a primitive nor a view", plugin)


def _sites(graph_module: fx.GraphModule) -> set[str]:
    return {str(node.meta["site"]) for node in graph_module.graph.nodes if node.meta.get("site")}


def _unread(graph_module: fx.GraphModule) -> set[str]:
    return set(graph_module.state_dict()) - {str(n.target) for n in graph_module.graph.nodes if n.op == "get_attr"}


def _require(holds: bool, complaint: str, plugin: Approximation | Pass) -> None:
    if not holds:
        raise AssertionError(f"{plugin.name}: {complaint}")
