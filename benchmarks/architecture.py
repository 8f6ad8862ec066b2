"""Draws the rooms of the code and which of them import which: docs/architecture.svg.

    python -m benchmarks.architecture            compares the picture with the code
    python -m benchmarks.architecture --write    writes it anew

Boxes are the rooms of `tests/test_structure.py` with the first line of their docstrings, each above all that it imports.
Arrows are the imports found in the files, without those that follow from others (transitive reduction). The dashed arrows are
plug-ins, which the registry finds without importing them by name. The same code gives the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from pathlib import Path

from tests import test_structure as structure

PICTURE = structure.ROOT / "docs" / "architecture.svg"
WIDTH, HEIGHT, GAP, FLOOR, THREAD = 204, 70, 16, 108, 14
"""Of a box, between boxes, from floor to floor, and of a long arrow where it passes a floor; in pixels."""
LETTERS = 37
"""That fit into a line of a box."""
COLOURS = {"passes": "#fff3d6", "costmodels": "#fff3d6", "ir": "#e3efe3"}
SWEEPS = 12
"""Of ordering by neighbours, up and down; the order no longer changes after half of them."""

Node = str | tuple[str, str, int]
"""A room, or the place where the arrow between two rooms passes a floor."""
Graph = dict[str, set[str]]
"""Room -> the rooms that it imports."""


def imported() -> Graph:
    """What the files of each room import, without what every room may import."""
    graph: Graph = {}
    for path in structure.files(*structure.SHIPPED):
        here = structure.room(path)
        if here in ("", "__main__", *structure.SEEN_BY_ALL):
            continue
        below = graph.setdefault(here, set())
        for _, module in structure.imports(path):
            top, _, rest = module.partition(".")
            if top == "mpcc" and rest.split(".")[0] in structure.MAY_SEE:
                below.add(rest.split(".")[0])
        below -= {here, *structure.SEEN_BY_ALL}
    return graph


def floors(graph: Graph) -> dict[str, int]:
    """Room -> its floor: one above the highest room that it imports; 0 imports none. RecursionError if there is a circle."""

    @cache
    def floor(name: str) -> int:
        return max((floor(below) + 1 for below in graph[name]), default=0)

    return {name: floor(name) for name in graph}


def reduced(graph: Graph) -> Graph:
    """The transitive reduction: without imports of rooms that are also reached through another import."""

    @cache
    def reached(name: str) -> frozenset[str]:
        return frozenset(graph[name]).union(*(reached(below) for below in graph[name]))

    return {name: {one for one in below if not any(one in reached(other) for other in below)} for name, below in graph.items()}


def arrows(graph: Graph) -> list[tuple[str, str]]:
    """(upper, lower) in a fixed order."""
    return sorted((name, one) for name, below in graph.items() for one in below)


@cache
def summary(name: str) -> str:
    """The first line of the docstring of a room."""
    homes = [structure.ROOT / folder / name for folder in ("mpcc", ".")]
    paths = [path for home in homes for path in (home / "__init__.py", home.with_suffix(".py"))]
    (path, *_) = (path for path in paths if path.is_file())
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0].rstrip(".")


def rows(graph: Graph, height: dict[str, int]) -> list[list[Node]]:
    """Rooms and passing arrows of each floor from left to right, so ordered that few arrows cross (barycentres)."""
    levels: list[list[Node]] = [[] for _ in range(max(height.values()) + 1)]
    near: dict[Node, list[Node]] = {}
    for name in sorted(graph, key=lambda one: (one not in structure.PLUGINS, one)):
        levels[height[name]].append(name)
    for upper, lower in arrows(graph):
        chain = list(route(upper, lower, height))
        for floor, place in zip(range(height[upper] - 1, height[lower], -1), chain[1:-1], strict=True):
            levels[floor].append(place)
        for one, other in zip(chain, chain[1:], strict=False):
            near.setdefault(one, []).append(other)
            near.setdefault(other, []).append(one)
    for sweep in range(SWEEPS):
        order = range(1, len(levels)) if sweep % 2 == 0 else range(len(levels) - 2, -1, -1)
        for floor in order:
            place = positions(levels)
            levels[floor].sort(key=lambda one: sum(place[n] for n in near.get(one, [one])) / len(near.get(one, [one])))
    return levels


def route(upper: str, lower: str, height: dict[str, int]) -> Iterator[Node]:
    """The nodes that an arrow touches, from the upper room to the lower one."""
    yield upper
    yield from ((upper, lower, floor) for floor in range(height[upper] - 1, height[lower], -1))
    yield lower


def positions(levels: Sequence[Sequence[Node]]) -> dict[Node, float]:
    """Centre of each node; every floor is centred at 0."""
    found: dict[Node, float] = {}
    for level in levels:
        widths = [WIDTH if isinstance(node, str) else THREAD for node in level]
        left = -(sum(widths) + GAP * (len(level) - 1)) / 2
        for node, width in zip(level, widths, strict=True):
            found[node] = left + width / 2
            left += width + GAP
    return found


def picture() -> str:
    """The picture as SVG text."""
    graph = imported()
    height = floors(graph)
    drawn = reduced(graph)
    levels = rows(drawn, height)
    place = positions(levels)
    left, right = min(place.values()) - WIDTH / 2 - GAP, max(place.values()) + WIDTH / 2 + GAP
    top, bottom = -FLOOR * (len(levels) - 1) - HEIGHT / 2 - GAP, HEIGHT / 2 + 3 * GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} {top:.0f} {right - left:.0f} {bottom - top:.0f}" '
        'font-family="sans-serif" font-size="10">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#777"/></marker></defs>',
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{right - left:.0f}" height="{bottom - top:.0f}" fill="#ffffff"/>',
    ]
    for upper, lower in arrows(drawn):
        lines.append(_arrow([(place[node], _y(node, height)) for node in route(upper, lower, height)]))
    for name in sorted(structure.PLUGINS):
        lines.append(_dashed((place["registry"], _y("registry", height)), (place[name], _y(name, height))))
    lines += [_box(name, place[name], _y(name, height)) for name in sorted(graph)]
    common = f"Every room may import {', '.join(sorted(structure.SEEN_BY_ALL))}."
    lines += [f'<text x="0" y="{bottom - GAP:.0f}" text-anchor="middle" fill="#555">{escape(common)}</text>', "</svg>"]
    return "\n".join(lines) + "\n"


def _y(node: Node, height: dict[str, int]) -> float:
    return -FLOOR * (height[node] if isinstance(node, str) else node[2])


def _arrow(points: Sequence[tuple[float, float]]) -> str:
    """A curve through the points, vertical at each: from the lower edge of the first box to the upper one of the last."""
    (x, y), *rest = points
    path, y = f"M{x:.0f},{y + HEIGHT / 2:.0f}", y + HEIGHT / 2
    for number, (next_x, next_y) in enumerate(rest, 1):
        next_y -= HEIGHT / 2
        bend = (next_y - y) / 2
        path += f" C{x:.0f},{y + bend:.0f} {next_x:.0f},{next_y - bend:.0f} {next_x:.0f},{next_y:.0f}"
        x, y = next_x, next_y
        if number < len(rest):  # straight past the boxes of this floor
            y += HEIGHT
            path += f" L{x:.0f},{y:.0f}"
    return f'<path d="{path}" fill="none" stroke="#999" stroke-width="1" marker-end="url(#tip)"/>'


def _dashed(start: tuple[float, float], end: tuple[float, float]) -> str:
    return (
        f'<line x1="{start[0]:.0f}" y1="{start[1]:.0f}" x2="{end[0]:.0f}" y2="{end[1]:.0f}" '
        'stroke="#c80" stroke-width="1.2" stroke-dasharray="4 3"/>'
    )


def _box(name: str, x: float, y: float) -> str:
    colour = COLOURS.get(name, "#f2f5f9")
    left, top = x - WIDTH / 2, y - HEIGHT / 2
    text = textwrap.wrap(summary(name), LETTERS, max_lines=4, placeholder=" ...")
    spans = "".join(f'<tspan x="{x:.0f}" dy="11.5">{escape(line)}</tspan>' for line in text)
    return (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{colour}" stroke="#889"/>'
        f'<text x="{x:.0f}" y="{top + 15:.0f}" text-anchor="middle" font-size="12" font-weight="bold">{escape(name)}</text>'
        f'<text x="{x:.0f}" y="{top + 18:.0f}" text-anchor="middle" fill="#333">{spans}</text>'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    text = picture()
    if parser.parse_args().write:
        PICTURE.write_text(text, encoding="utf-8")
        print(f"wrote {PICTURE.relative_to(structure.ROOT)}")
        return 0
    current = PICTURE.is_file() and Path(PICTURE).read_text(encoding="utf-8") == text
    print("docs/architecture.svg is current" if current else "docs/architecture.svg is out of date: run with --write")
    return 0 if current else 1


if __name__ == "__main__":
    raise SystemExit(main())
