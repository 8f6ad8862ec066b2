"""mpcc keys: a set, a kept authority, one more client, a revocation; wrong use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcc.runtime.net.identity import Identity

Mpcc = Callable[..., Any]


def test_a_client_more_and_its_revocation(mpcc: Mpcc, tmp_path: Path) -> None:
    first = mpcc("keys", "keys", "--authority", "ca")
    assert first.code == 0 and "keep it offline" in first.out
    made = json.loads(mpcc("keys", "--authority", "ca", "--client", "alice", "--json").out)
    assert made == {"client": "alice"}
    Identity.of(tmp_path / "alice", "client").context(server=False)
    told = mpcc("keys", "--authority", "ca", "--revoke", "alice")
    assert told.code == 0 and "revoked.txt: copy it into the folders of the server and the dealer" in told.err
    assert "client alice" in (tmp_path / "ca" / "revoked.txt").read_text()
    renewed = mpcc("keys", "new", "--authority", "ca", "--days", "30")
    assert renewed.code == 0
    old, new = (tmp_path / name / "server" / "authority.pem" for name in ("keys", "new"))
    assert old.read_bytes() == new.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no folder given"),
        (["--client", "alice"], "need the authority"),
        (["--revoke", "alice"], "need the authority"),
        (["--authority", "nowhere", "--client", "alice"], "not the folder of an authority"),
        (["--authority", "nowhere", "--revoke", "alice"], "not the folder of an authority"),
        (["x", "--authority", "ca", "--revoke", "alice"], "makes no certificates"),
    ],
)
def test_wrong_use(mpcc: Mpcc, tmp_path: Path, arguments: list[str], words: str) -> None:
    answer = mpcc("keys", *arguments)
    assert answer.code == 2 and words in answer.err and list(tmp_path.iterdir()) == []
