"""The plot of `mpcc profile`: seconds by layer for every estimate, and how bytes and seconds grow with tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpcc.errors import UsageError
from mpcc.files import replacing
from mpcc.ir.nn import site_operator

from .figure import figure, over_tokens
from .units import duration

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from mpcc.cost import Estimate, Network, Protocol, SiteCost

TIMES = (1, 2, 4, 8)
"""Token counts of the curves, as multiples of the model's own."""
SUFFIXES = (".png", ".svg", ".pdf")
OPERATORS = ("softmax", "gelu", "layer_norm", "linear", "matmul")
"""Operators with a colour of their own; all others are `other`."""
ALIKE = {"rms_norm": "layer_norm", "group_norm": "layer_norm", "silu": "gelu", "relu": "gelu", "convolution": "linear"}
COLOURS = {"softmax": "#c44e52", "gelu": "#dd8452", "layer_norm": "#8172b3", "linear": "#4c72b0", "matmul": "#55a868"}
NAMES = {"gelu": "activation", "layer_norm": "norm", "linear": "linear, convolution"}
OTHER = "#b0b0b0"
MOST_COLUMNS = 3
DPI = 130


@dataclass(frozen=True)
class Curve:
    """Bytes and seconds of one protocol on the first network at several token counts; the model's own is `here`."""

    protocol: str
    here: int
    tokens: tuple[int, ...]
    bytes: tuple[float, ...]
    seconds: tuple[float, ...]


def curves(graph: GraphModule, protocols: Sequence[Protocol], link: Network) -> list[Curve]:
    """How cost grows with tokens under protocols with price tables; empty for a model without formulas."""
    from mpcc.cost import symbolic, uses

    made: list[Curve] = []
    found = uses(graph)
    for protocol in protocols:
        try:
            formulas = symbolic(found, protocol)
        except UsageError:
            continue
        here = formulas.sizes["n"]
        tokens = tuple(here * times for times in TIMES)
        works = formulas.work(tokens)
        seconds = tuple(float(protocol.seconds(work, link)) for work in works)
        made.append(Curve(protocol.name, here, tokens, tuple(float(work.bytes) for work in works), seconds))
    return made


def drawable(path: Path) -> None:
    """UsageError if the plot could not be written, before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"unsupported image format {path.suffix!r}", where=str(path), hint="Use .png, .svg or .pdf.")
    if not path.resolve().parent.is_dir():
        raise UsageError("no such folder", where=str(path.parent), hint="Create it, or choose another.")


def draw(found: Sequence[Estimate], curves: Sequence[Curve], path: Path) -> None:
    """Write the plot atomically."""
    links = len({one.network for one in found})
    columns = links if 1 < links <= MOST_COLUMNS else min(MOST_COLUMNS, len(found))
    layers = list(dict.fromkeys(_layer(row) for one in found for row in one.sites if row.seconds))
    rows = -(-len(found) // columns)
    heights = [0.9 + 0.24 * len(layers)] * rows + ([3.4] if curves else [])
    with figure(max(7.5, 4.4 * columns), 0.5 + sum(heights)) as made:
        parts = made.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for row in range(rows):
            shown = found[row * columns : (row + 1) * columns]
            panels = parts[row].subplots(1, columns, sharey=True, squeeze=False)[0]
            for panel, one in zip(panels, shown, strict=False):
                _bars(panel, one, layers)
            for panel in panels[len(shown) :]:
                panel.set_axis_off()
            panels[0].set_yticks(range(len(layers)), layers)
            panels[0].invert_yaxis()
        _legend(made, found)
        if curves:
            _growth(parts[-1], curves, found)
        _write(made, path)


def _bars(panel: Any, estimate: Estimate, layers: Sequence[str]) -> None:
    """Horizontal bars: one per layer, stacked by operator."""
    seconds: dict[str, list[float]] = {}
    for row in estimate.sites:
        if _layer(row) not in layers:
            continue
        bar = seconds.setdefault(_operator(row), [0.0] * len(layers))
        bar[layers.index(_layer(row))] += float(row.seconds)
    starts = [0.0] * len(layers)
    for name in (*OPERATORS, "other"):
        if name in seconds:
            panel.barh(range(len(layers)), seconds[name], 0.74, left=starts, color=COLOURS.get(name, OTHER))
            starts = [start + width for start, width in zip(starts, seconds[name], strict=True)]
    panel.set_title(f"{estimate.protocol} on {estimate.network}: {duration(float(estimate.seconds))}", fontsize=9.5)
    panel.set_xlabel("seconds")
    panel.spines[["top", "right"]].set_visible(False)


def _legend(figure: Any, found: Sequence[Estimate]) -> None:
    from matplotlib.patches import Patch

    there = {_operator(row) for one in found for row in one.sites}
    patches = [
        Patch(color=COLOURS.get(name, OTHER), label=NAMES.get(name, name)) for name in (*OPERATORS, "other") if name in there
    ]
    figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), frameon=False)


def _growth(part: Any, curves: Sequence[Curve], found: Sequence[Estimate]) -> None:
    """MB and seconds on the first network against tokens. Protocols without formulas are single points."""
    panels = part.subplots(1, 2)
    here = curves[0].here
    rest = {one.protocol: one for one in reversed(found) if one.protocol not in {curve.protocol for curve in curves}}
    for panel, title, factor in ((panels[0], "MB online", 1e-6), (panels[1], f"seconds on {found[0].network}", 1.0)):
        for curve in curves:
            values = curve.bytes if factor < 1 else curve.seconds
            panel.loglog(curve.tokens, [factor * value for value in values], marker="o", markersize=3.5, label=curve.protocol)
        for name, one in rest.items():
            panel.loglog([here], [factor * float(one.bytes if factor < 1 else one.seconds)], "*", markersize=10, label=name)
        over_tokens(panel, curves[0].tokens, "tokens (all else equal)", title)
    panels[0].legend(frameon=False)


def _write(figure: Any, path: Path) -> None:
    kind = path.suffix.lower()[1:]
    dated = {"svg": ("Date", "Creator"), "pdf": ("CreationDate", "Creator", "Producer"), "png": ("Software",)}[kind]
    with replacing(path) as part:
        figure.savefig(part, format=kind, dpi=DPI, metadata=dict.fromkeys(dated))


_BLOCK = re.compile(r"^(?:.*?\.)?\d+(?=\.|$)")


def _layer(row: SiteCost) -> str:
    """`blocks.3` of blocks.3.attn.qkv, `patch_embed` of patch_embed.proj."""
    name = row.layer or row.site
    block = _BLOCK.match(name)
    return block[0] if block else name.split(".")[0]


def _operator(row: SiteCost) -> str:
    """The model's operator that a row belongs to, also where the row is one primitive of an approximation."""
    name = site_operator(row.site)
    for candidate in (name, row.kind):
        found = ALIKE.get(candidate, candidate)
        if found in OPERATORS:
            return found
    return "linear" if row.kind == "conv" else "other"
