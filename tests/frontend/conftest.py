"""Fixtures of several files of this room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.frontend.hostile import watching
from tests.models.torch_models import Small


@pytest.fixture
def nothing_runs() -> Iterator[list[str]]:
    """Fails the test if anything ran, was imported or written meanwhile."""
    with watching() as found:
        yield found
    assert found == []


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    path, x, small = tmp_path_factory.mktemp("pt2") / "small.pt2", torch.randn(1, 2, 4, 4), Small().eval()
    torch.export.save(torch.export.export(small, (x,)), path)
    return path, x, small(x).detach()


