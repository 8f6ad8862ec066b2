"""Pictures of a report: the model block by block with what was chosen, and its rounds in the order of time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mpcc.approximate import Plan, Split
from mpcc.ir.nn import SITES, site_operator
from mpcc.program import Program, listing

from .comparison import KINDS, names
from .units import size

COLOURS = ("#2f6f9f", "#d1781f", "#4f8f3a", "#8b5fa8", "#b8433f", "#6f6259", "#c2558f", "#5f7f8f", "#9a8f1f", "#1f8f8f")
"""For light and dark pages alike: middling in brightness, told apart by hue; each is also named."""
BLOCK = re.compile(r"^(.*\.\d+)\.")
"""Up to the last number of a site's path: `blocks.0` of blocks.0.attn.softmax."""
WIDTH, HEIGHT, LEAST = 900, 120, 2.0


@dataclass(frozen=True)
class Cell:
    """A site in the picture of its block: the operator, what was chosen there, the colour of that choice.

    `parts`: of a split site, by position (head or token) what was chosen and its colour; `colour` is then that of the most.
    """

    site: str
    operator: str
    chosen: str
    colour: str
    parts: tuple[tuple[str, str], ...] = ()


def blocks(plan: Plan) -> list[tuple[str, list[Cell]]]:
    """(block, its sites in the order of the graph); what stands outside numbered blocks goes by its layer."""
    colour = _colours([choice.approximation for entry in plan.choices.values() for choice in entry.choices])
    found: dict[str, list[Cell]] = {}
    for site, entry in plan.choices.items():
        inside = BLOCK.match(site)
        operator = site_operator(site)
        place = inside[1] if inside else site.removesuffix(operator).rstrip(".") or operator
        parts = _positions(entry, colour) if isinstance(entry, Split) else ()
        most = max(entry.choices, key=lambda choice: sum(name == choice.approximation for name, _ in parts))
        found.setdefault(place, []).append(Cell(site, operator, names(plan, site), colour[most.approximation], parts))
    return list(found.items())


def _positions(entry: Split, colour: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Of each head or token: what was chosen, and its colour."""
    chosen = {place: part.choice.approximation for part in entry.parts for place in part.index}
    return tuple((chosen[place], colour[chosen[place]]) for place in sorted(chosen))


def _colours(values: Sequence[str]) -> dict[str, str]:
    """The more often one is chosen, the earlier its colour; those beyond the colours share the last one."""
    order = [name for name, _ in Counter(values).most_common()]
    return {name: COLOURS[min(place, len(COLOURS) - 1)] for place, name in enumerate(order)}


def timeline(program: Program) -> str:
    """A bar for each round, as high as its messages are large, coloured by the operator that sends most in it. SVG text."""
    rows = list(listing.rounds(program))
    if not rows:
        return ""
    most = max(max(row.server_bytes + row.client_bytes for row in rows), 1)
    kinds = [_kind(row) for row in rows]
    colour = _colours(kinds)
    step = WIDTH / len(rows)
    bars = []
    for place, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
        amount = row.server_bytes + row.client_bytes
        high = max(HEIGHT * amount / most, LEAST)
        title = f"round {row.number}: {size(amount)}, {kind}"
        bars.append(
            f'<rect x="{place * step:.2f}" y="{HEIGHT - high:.2f}" width="{max(step - 0.5, 0.5):.2f}" height="{high:.2f}" '
            f'fill="{colour[kind]}"><title>{escape(title)}</title></rect>'
        )
    legend = " ".join(f'<span><i style="background:{shade}"></i>{escape(kind)}</span>' for kind, shade in colour.items())
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="bytes of each round"'
    return f'<svg class="time" {box}>{"".join(bars)}</svg><p class="legend">{legend}</p>'


def _kind(row: listing.Round) -> str:
    """The operator whose values are the largest part of a round, called as in the table. What is of no site names a layer."""
    bits: Counter[str] = Counter()
    for sent in row.sent:
        operator = site_operator(sent.site)
        bits[operator if operator in SITES else KINDS.get(sent.primitive, sent.primitive)] += sent.values * sent.bits
    return bits.most_common(1)[0][0] if bits else "output"
