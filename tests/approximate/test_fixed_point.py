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
from mpcc.testing.cases import Case, cases_of
from mpcc.testing.contracts import candidates_of, run
from tests.models.programs import EXACT, Threads

NAMES = sorted(registry.approximations())
MOST_CANDIDATES = 2
FIXED = 2.0**-7
"""What fixed point adds to a declared error: of the largest output, or of 1 if that is smaller."""
AMPLIFIES = {"exp_limit": 4.0}
"""Eight squarings turn a unit of the first value into 256 units of the last."""


def first_case(name: str) -> tuple[Case, tuple[Options, ...]]:
    """The first case of its operator in which an approximation applies, and its candidates there."""
    approximation = registry.approximation(name)
    return next((case, found) for case in cases_of(approximation.operator) if (found := candidates_of(approximation, case)))


def chosen(found: tuple[Options, ...]) -> tuple[Options, ...]:
    """The first candidates and the last."""
    return found if len(found) <= MOST_CANDIDATES else (*found[: MOST_CANDIDATES - 1], found[-1])


def scheduled(name: str, case: Case, options: Options) -> tuple[Program, tuple[Tensor, ...]]:
    """The program of one operator under one candidate, calibrated on the case; all of the case's tensors are inputs."""
    graph = expand(case.graph(), Plan({case.site: Choice(name, options)}), registry.approximations())
    tensors = tuple(tensor.float() for tensor in case.tensors)
    record_ranges(graph, [tensors])
    return lower(graph, EXACT), tensors


@pytest.mark.parametrize("name", NAMES)
def test_the_declared_error_holds_in_fixed_point(name: str) -> None:
    """For structural ones, which declare none, fixed point is held against the float function."""
    approximation, (case, found) = registry.approximation(name), first_case(name)
    for options in chosen(found):
        expected, declared = case.reference(*case.tensors), approximation.error(options)
        program, tensors = scheduled(name, case, options)
        emulated = Emulator(program)(*tensors)[0].double()
        if declared is None:
            expected, declared = run(approximation, case, options), 0.0
        allowed = declared * case.weight + FIXED * max(1.0, float(expected.abs().max()))
        assert float((emulated - expected).abs().max()) <= allowed, options


@pytest.mark.parametrize("name", NAMES)
def test_the_parties_compute_the_emulation_at_the_stated_cost(name: str) -> None:
    case, found = first_case(name)
    program, tensors = scheduled(name, case, found[0])
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
