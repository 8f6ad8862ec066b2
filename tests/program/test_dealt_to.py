"""Which party the dealer sends a derived value to: both links carry as much, and what is common goes to both."""

from __future__ import annotations

import pytest

from mpcc.ir import dealer
from mpcc.ir.nn import size_of
from mpcc.program.program import from_seed
from tests.models.programs import NAMES, dealt_bytes, program


@pytest.mark.parametrize("name", NAMES)
def test_both_links_carry_as_much(name: str) -> None:
    """Apart by one value at most."""
    made = program(name)
    sources = {node.name: node for node in made.dealer.graph.nodes}
    derived = [8 * size_of(made.nodes[s]) for s, n in made.correlations if not from_seed(sources[n])] or [0]
    loads = [dealt_bytes(made, party) for party in (0, 1)]
    assert abs(loads[0] - loads[1]) <= max(derived)
    assert (sum(loads), max(loads)) == (made.cost.dealer_bytes, made.cost.busier_dealer_bytes)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_reaches_whom_it_must(name: str) -> None:
    made = program(name)
    sources = {node.name: node for node in made.dealer.graph.nodes}
    for share, source in made.correlations:
        kind, to = sources[source], made.dealt_to[share]
        assert to == () if from_seed(kind) else to == (0, 1) if kind.target in dealer.COMMON else len(to) == 1
