"""What an executable takes as inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpcc.approximate import Plan
from mpcc.errors import RangeError, UsageError
from mpcc.runtime.executable import Executable
from tests.models.programs import SHAPE, program


def executable() -> Executable:
    return Executable(program("linear"), Plan({}))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, np.bool_])
def test_an_array_is_the_tensor_of_its_numbers(dtype: type) -> None:
    array = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 2).astype(dtype)
    expected = executable().emulate(torch.from_numpy(array.astype(np.float32)))
    given = executable().emulate(array)
    assert isinstance(given, torch.Tensor)
    assert isinstance(expected, torch.Tensor)
    assert torch.equal(given, expected)


def test_an_array_runs_privately() -> None:
    array = np.linspace(-1, 1, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    expected = executable().emulate(array)
    assert isinstance(expected, torch.Tensor)
    assert torch.allclose(executable().run(array).output, expected, atol=1e-3)


def test_an_array_of_no_numbers_is_refused() -> None:
    with pytest.raises(UsageError, match="no numbers"):
        executable().emulate(np.full(SHAPE, "a"))
    with pytest.raises(RangeError, match="NaN"):
        executable().run(np.full(SHAPE, np.nan))
