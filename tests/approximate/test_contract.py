"""The contract of every approximation (`mpcc.testing.contracts`), clause by clause over all cases of its operator."""

from __future__ import annotations

import pytest
import torch

from mpcc import registry
from mpcc.approximate import Approximation
from mpcc.approximate.expand import ATTRIBUTES, IGNORED
from mpcc.ir import nn
from mpcc.testing import contracts
from mpcc.testing.cases import CASES, UNEQUAL, Case, cases_of

NAMES = sorted(registry.approximations())
PAIRS = [
    pytest.param(registry.approximation(name), case, id=f"{name}-{index}")
    for name in NAMES
    for index, case in enumerate(CASES)
    if registry.approximation(name).operator == case.operator
]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_declared_in_full(name: str) -> None:
    approximation = registry.approximation(name)
    contracts.is_declared_in_full(approximation, cases_of(approximation.operator))
    assert approximation.name == name


@pytest.mark.parametrize("clause", contracts.CLAUSES, ids=lambda clause: clause.__name__)
@pytest.mark.parametrize(("approximation", "case"), PAIRS)
def test_it_keeps(approximation: Approximation, case: Case, clause) -> None:  # type: ignore[no-untyped-def]
    clause(approximation, case)


def test_the_first_norm_is_accurate_where_rows_differ_by_powers_of_ten() -> None:
    case = next(case for case in CASES if case.tensors[0] is UNEQUAL)
    norm = registry.approximation("layer_norm_fitted")
    seen = contracts.statistics_of(norm, case).ranges["variance"]
    assert seen.high > 1e5 * seen.low
    first = norm.error(contracts.candidates_of(norm, case)[0])
    assert first is not None and first < 0.01


@pytest.mark.parametrize("operator", sorted({one.operator for one in registry.approximations().values()}))
def test_every_argument_of_an_operator_is_a_tensor_an_attribute_or_ignored(operator: str) -> None:
    """Else it would be passed on as if it were a tensor, or not at all."""
    arguments = nn.SITES[operator]._schema.arguments
    tensors = {a.name for a in arguments if "Tensor" in str(a.type)}
    others = {a.name for a in arguments} - tensors
    assert others == set(ATTRIBUTES.get(operator, ())) | (others & IGNORED)


def test_no_two_approximations_of_an_operator_have_one_preference() -> None:
    found = [(one.operator, one.preference) for one in registry.approximations().values() if one.preference is not None]
    assert len(found) == len(set(found)) and min(place for _, place in found) == 1


def test_an_exact_division_is_exact() -> None:
    """What a model is trained with: no fitted reciprocal, so the rows add up to one."""
    case = cases_of("softmax")[0]
    quad = registry.approximation("softmax_2quad")
    exact = contracts.run(quad, case, quad.exact_form(contracts.candidates_of(quad, case)[0]))
    torch.testing.assert_close(exact.sum(-1), torch.ones_like(exact[..., 0]))
