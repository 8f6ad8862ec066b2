"""What crosses between helper, server and dealer while they serve: uniform, whatever the client asks."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from mpcc.runtime.net.transport import Phase, Slot
from mpcc.serving import service
from tests.models.served import bundle, serving
from tests.runtime.test_leaks import UNLIKELY, WHOLE, Caught, constancy, frequencies, opened, whole_words

RUNS = 24
VALUES = {"zeros": 0.0, "large": 1.5}


def test_wires_are_uniform_for_two_different_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the client is a party (tests/runtime/test_leaks.py), with the helper in its place; what is opened as well."""
    made = whole_words()
    seen: defaultdict[int, Caught] = defaultdict(dict)

    def tap(direction: str, slot: Slot, payload: memoryview) -> None:
        here = seen[slot.number]
        if slot.phase == Phase.ONLINE:
            size = made.messages[slot.place].bytes(1 if direction == "sent" else 0)
            here["client-server", direction, slot._replace(number=0)] = bytes(payload[:size])
        elif slot.phase == Phase.AHEAD:
            here["client-server", direction, slot._replace(number=0)] = bytes(payload[: sum(p.bytes for p in made.ahead)])
        elif slot.phase == Phase.DEAL and len(payload):
            here["client-dealer", direction, slot._replace(number=0)] = bytes(payload)

    known = service.Participant

    def tapped(role: str, *args: Any, **options: Any) -> Any:
        return known(role, *args, **options, tap=tap if role == "helper" else None)

    monkeypatch.setattr(service, "Participant", tapped)
    with serving(bundle(tmp_path / "m.mpcc", made), in_flight=1) as trio, trio.client() as client:
        for value in VALUES.values():
            for _ in range(RUNS):
                client.ask(np.full(WHOLE, value))
    runs = {name: [seen[i * RUNS + k] for k in range(RUNS)] for i, name in enumerate(VALUES)}
    for found in (runs, {name: [opened(made, run) for run in some] for name, some in runs.items()}):
        tables = [frequencies(found[name]) for name in VALUES]
        for name, table in zip(VALUES, tables, strict=True):
            assert table.sum() > 10_000
            assert stats.chisquare(table).pvalue > UNLIKELY, name
            assert constancy(found[name]) > UNLIKELY, name
        assert stats.chi2_contingency(np.stack(tables)).pvalue > UNLIKELY
    messages = [m for some in runs.values() for run in some for m in run.values() if len(m) >= 16]
    assert len(set(messages)) == len(messages)
