"""The picture of a Pareto front is the same text whenever it is drawn: it is committed, and its diff is read."""

from __future__ import annotations

from pathlib import Path

from mpcc.show.figure import save
from mpcc.show.front import picture


def test_the_same_front_gives_the_same_svg(tmp_path: Path) -> None:
    for name in ("first.svg", "second.svg"):
        save(picture({"this search": [(0.5, 1.0), (2.0, 0.1)]}, "KL divergence", {"stock": (1.0, 0.3)}), tmp_path / name)
    first = (tmp_path / "first.svg").read_text()
    assert first == (tmp_path / "second.svg").read_text()
    assert ">stock</text>" in first, "text stays text"
