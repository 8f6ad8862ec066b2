"""How a result shows itself in a notebook: a table of before and after, and a picture of both."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from mpcc import files
from mpcc.approximate import Plan
from mpcc.cost import Estimate

from .bars import bars
from .comparison import by_operator, cells, lines, totals

RIGHT = ' style="text-align: right"'


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG text, which notebooks show as it is."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write it as a .svg file."""
        files.write(Path(path), self.svg)
        return Path(path)


def picture(plan: Plan, before: Estimate, after: Estimate) -> Picture:
    """Bytes and rounds of each kind of operator, before and after."""
    return Picture(bars(by_operator(lines(plan, before, after), plan)))


def text(plan: Plan, before: Estimate, after: Estimate) -> str:
    """One line: what was chosen how often, and the totals."""
    costs = ", ".join(f"{name} {old} -> {new}" for name, (old, new, _) in totals(before, after).items())
    return f"{len(plan.choices)} site(s), {after.network}: {costs}"


def table(plan: Plan, before: Estimate, after: Estimate) -> str:
    """A row for each kind of operator, and the totals, as HTML. Names come from the model, so they are escaped."""
    rows = [
        _row([escape(line.name), escape(line.chosen)], [f"{old} \u2192 {new}" for old, new in cells(line).values()])
        for line in by_operator(lines(plan, before, after), plan)
    ]
    found = totals(before, after)
    last = _row(["<b>online</b>", ""], [f"<b>{old} \u2192 {new}</b><br>{ratio}" for old, new, ratio in found.values()])
    head = "".join(f"<th{RIGHT if name in found else ''}>{name}</th>" for name in ("operator", "chosen", *found))
    title = f"One private inference on {escape(after.network)}: {escape(before.protocol)} \u2192 mpcc"
    return f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}{last}</tbody></table>"


def _row(words: list[str], figures: list[str]) -> str:
    return f"<tr>{''.join(f'<td>{w}</td>' for w in words)}{''.join(f'<td{RIGHT}>{f}</td>' for f in figures)}</tr>"
