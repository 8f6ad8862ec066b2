"""docs/architecture.svg is the picture of this code, and docs/architecture.md names every room."""

from __future__ import annotations

from benchmarks import architecture
from tests.test_structure import MAY_SEE, ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_picture_is_current() -> None:
    assert architecture.PICTURE.read_text(encoding="utf-8") == architecture.picture(), (
        "python -m benchmarks.architecture --write brings docs/architecture.svg up to date"
    )


def test_an_arrow_only_points_down_and_follows_from_no_other() -> None:
    graph = {"top": {"middle", "bottom"}, "middle": {"bottom"}, "bottom": set[str]()}
    assert architecture.floors(graph) == {"top": 2, "middle": 1, "bottom": 0}
    assert architecture.arrows(architecture.reduced(graph)) == [("middle", "bottom"), ("top", "middle")]


def test_every_room_is_described() -> None:
    assert [name for name in MAY_SEE if f"`{name}`" not in TEXT and name != "__main__"] == []
