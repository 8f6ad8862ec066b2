"""Tests of the search keep their losses to themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mpcc import registry
from mpcc.cost.machine import Machine


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        Machine.here(registry.protocol("mpcc").compute).write()
        yield
