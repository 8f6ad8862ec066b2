"""The contract of every approximation in the engine: the declared error holds in fixed point, too, the parties compute what
the emulation says, and what they send is what the program says."""

from __future__ import annotations

import pytest
from torch import Tensor

from mpcc import registry
from mpcc.approximate import Choice, Options, Plan
from mpcc.approximate.expand import expand
from mpcc.calibration.ranges import record_ranges
from mpcc.cost import Network
from mpcc.lowering import lower
from mpcc.program import Program
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.net.transport import Phase
from mpcc.search.program_cost import program_estimate
from tests.approximate.test_contract import BIAS, CASES, NAMES, WEIGHT, attributes_of, graph_of, members_of
from tests.models.programs import Threads

MOST_MEMBERS = 2
FIXED = 2.0**-7
"""What fixed point adds to a declared error: of the largest output, or of 1 if that is smaller."""
AMPLIFIES = {"exp_limit": 4.0}
"""Eight squarings turn a unit of the first value into 256 units of the last."""


def first_case(name: str) -> int:
    """The first case of its operator in which an approximation applies."""
    operator = registry.approximation(name).operator
    return next(i for i, case in enumerate(CASES) if case.operator == operator and members_of(name, i))


def chosen(members: tuple[Options, ...]) -> tuple[Options, ...]:
    """The first members and the last."""
    return members if len(members) <= MOST_MEMBERS else (*members[: MOST_MEMBERS - 1], members[-1])


def scheduled(name: str, index: int, options: Options) -> tuple[Program, tuple[Tensor, ...]]:
    """The program of one operator under one member, calibrated on the case; all of the case's tensors are inputs."""
    case = CASES[index]
    graph = expand(graph_of(case), Plan({f"layer.{case.operator}": Choice(name, options)}), registry.approximations())
    tensors = tuple(tensor.float() for tensor in case.tensors)
    record_ranges(graph, [tensors])
    return lower(graph), tensors


@pytest.mark.parametrize("name", NAMES)
def test_the_declared_error_holds_in_fixed_point(name: str) -> None:
    """For structural members, which declare none, fixed point is held against the float function."""
    index, approximation = first_case(name), registry.approximation(name)
    case = CASES[index]
    expected = case.reference(*case.tensors)
    for options in chosen(members_of(name, index)):
        program, tensors = scheduled(name, index, options)
        found, declared = Emulator(program)(*tensors)[0].double(), approximation.error(options)
        if declared is None:
            expected, declared = approximation.function(*case.tensors, **attributes_of(index), **options), 0.0
        weights = float(WEIGHT.abs().max()) if any(t is WEIGHT or t is BIAS for t in case.tensors) else 1.0
        allowed = declared * weights + FIXED * max(1.0, float(expected.abs().max()))
        assert float((found - expected).abs().max()) <= allowed, options


@pytest.mark.parametrize("name", NAMES)
def test_the_parties_compute_the_emulation_at_the_stated_cost(name: str) -> None:
    index = first_case(name)
    program, tensors = scheduled(name, index, members_of(name, index)[0])
    protocol = registry.protocol("mpcc")
    estimate = program_estimate(program, protocol, Network.parse("lan"), protocol.compute)
    assert (int(estimate.rounds), int(estimate.bytes)) == (program.cost.rounds, program.cost.bytes)
    emulated = Emulator(program)(*tensors)[0]
    with Threads(program) as session:
        private = session.run(*tensors)[0]
        traffic = session.between["client"].traffic[Phase.ONLINE, 0]
    assert (traffic.rounds, traffic.bytes) == (program.cost.rounds, program.cost.bytes)
    allowed = FIXED * AMPLIFIES.get(name, 1.0)
    assert float((private - emulated).abs().max()) <= allowed * max(1.0, float(emulated.abs().max()))
