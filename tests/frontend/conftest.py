"""The fixture `nothing_runs`: fails a test in which a reader of model files does what no reader does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.frontend.hostile import WATCH


@pytest.fixture
def nothing_runs() -> Iterator[None]:
    WATCH.found, WATCH.on = [], True
    try:
        yield
    finally:
        WATCH.on = False
    assert WATCH.found == []
