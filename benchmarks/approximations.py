"""Fitted approximations beside published ones: error in fixed point, rounds and bytes an element, at softmax, GELU, LayerNorm.

    python -m benchmarks.approximations            docs/approximations.md, docs/approximations.json, docs/approximations.png

Each is scheduled by itself on the shape that it has in the Fashion-MNIST ViT, so rounds and bytes are exact (those of
opening the result are left out). Fitted ones are fitted on training images; the error is the largest one of the
engine's fixed point on test images, and again on values drawn from [-10, 10].
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mpcc
from examples.fashion_vit import data
from examples.fashion_vit.model import fashion_vit
from mpcc import registry
from mpcc.approximate import Approximation, Choice, Options, Plan
from mpcc.approximate.expand import expand
from mpcc.calibration import calibrate
from mpcc.calibration.ranges import record_ranges
from mpcc.errors import MpccError
from mpcc.lowering import lower
from mpcc.runtime.engine.emulate import Emulator
from tests.models.published import published

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "fashion_vit"
BLOCK = 2
FITTED_ON, MEASURED_ON, UNIFORM = 64, 32, 16
FITTED = {
    "gelu": ("gelu_spline", "gelu_polynomial"),
    "softmax": ("softmax_mean_shift", "softmax_tempered", "softmax_renormalised", "softmax_max", "softmax_clip"),
    "layer_norm": ("layer_norm_fitted",),
}
TITLES = {"gelu": "GELU", "softmax": "Softmax", "layer_norm": "LayerNorm"}
SETS = {"vit": "Fashion ViT", "uniform": "[-10, 10]"}


@dataclass(frozen=True)
class Row:
    """One candidate at one operator on one set of values. `rounds` is None where the engine refuses it; `why` says why."""

    operator: str
    values: str
    name: str
    published: bool
    level: str
    rounds: int | None = None
    bytes: float = math.nan
    error: float = math.nan
    why: str = ""


def activations(operator: str) -> tuple[Tensor, Tensor]:
    """What the operator sees in one block: [images, 1, ...] of training images, and of test images."""
    model, _ = fashion_vit()
    block, seen = model.blocks[BLOCK], []
    place = {"gelu": block.mlp.act, "layer_norm": block.norm2, "softmax": block.norm1}[operator]
    hook = place.register_forward_hook(lambda module, args, result: seen.append(result if operator == "softmax" else args[0]))
    with torch.no_grad():
        drawn = torch.randperm(60_000, generator=torch.Generator().manual_seed(1))[:FITTED_ON]
        model(data.training()[0][drawn])
        model(data.test()[0][:MEASURED_ON])
    hook.remove()
    if operator == "softmax":
        seen = [_logits(block.attn, x) for x in seen]
    return seen[0][:, None], seen[1][:, None]


@torch.no_grad()
def _logits(attention: nn.Module, x: Tensor) -> Tensor:
    """Query times key, scaled: [images, heads, tokens, tokens]."""
    batch, tokens, dim = x.shape
    heads = attention.heads
    qkv = attention.qkv(x).reshape(batch, tokens, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    return qkv[0] @ qkv[1].transpose(-2, -1) * attention.scale


def uniform(shape: Sequence[int], seed: int) -> Tensor:
    return torch.rand((UNIFORM, *shape), generator=torch.Generator().manual_seed(seed)) * 20 - 10


class Operator(nn.Module):
    """One operator, to be captured."""

    def __init__(self, operator: str) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        if self.operator == "softmax":
            return torch.softmax(x, -1)
        return nn.functional.gelu(x) if self.operator == "gelu" else nn.functional.layer_norm(x, x.shape[-1:])


def measured(operator: str, values: str, fitted_on: Tensor, measured_on: Tensor) -> list[Row]:
    """All fitted candidates and all published ones."""
    module = Operator(operator).eval()
    graph = mpcc.capture(module, (fitted_on[0],))
    (site,) = (statistics.site.name for statistics in calibrate(graph, list(fitted_on)).values())
    statistics = calibrate(graph, list(fitted_on))[site]
    candidates = published(statistics)
    known: Mapping[str, Approximation] = registry.approximations()
    rows = []
    with torch.no_grad():
        expected = module(measured_on)
    entries = [(name, known[name], options, False) for name in FITTED[operator] for options in known[name].candidates(statistics)]
    if operator == "gelu":  # its first candidate is fitted, the others are published
        entries.append(("gelu_quad", known["gelu_quad"], known["gelu_quad"].candidates(statistics)[0], False))
    entries += [(one.name, one.approximation, one.options, True) for one in candidates]
    for name, approximation, options, is_published in entries:
        row = Row(operator, values, name, is_published, approximation.level)
        rows.append(_measure(row, graph, site, approximation, options, fitted_on, measured_on, expected))
        print(rows[-1], flush=True)
    return rows


def _measure(
    row: Row, graph: Any, site: str, approximation: Approximation, options: Options, fitted_on: Tensor, x: Tensor,
    expected: Tensor,
) -> Row:  # fmt: skip
    try:
        expanded = expand(graph, Plan({site: Choice(approximation.name, options)}), {approximation.name: approximation})
        record_ranges(expanded, list(fitted_on))
        program = lower(expanded)
    except MpccError as error:
        return replace(row, why=error.what)
    found = Emulator(program).calls(x)[0]
    elements = expected[0].numel()
    moved = (program.cost.bytes - 8 * elements) / elements  # without opening the result
    return replace(row, rounds=program.cost.rounds - 1, bytes=moved, error=float((found - expected).abs().max()))


def pareto(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other one beats in rounds, bytes and error together; of equals the first."""

    def beats(one: Row, other: Row) -> bool:
        pairs = [(one.rounds, other.rounds), (one.bytes, other.bytes), (one.error, other.error)]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)  # type: ignore[operator]

    ran = list({(r.rounds, r.bytes, r.error): r for r in reversed(rows) if r.rounds is not None}.values())
    return sorted((r for r in ran if not any(beats(o, r) for o in ran)), key=lambda r: r.error)


def verdict(row: Row, fitted: Sequence[Row]) -> str:
    """What the fitted family needs for an error that is at most that of a published entry."""
    near = [one for one in fitted if one.rounds is not None and one.error <= row.error]
    if row.rounds is None:
        return f"the engine refuses it: {row.why}"
    both = [one for one in near if one.rounds <= row.rounds and one.bytes <= row.bytes]  # type: ignore[operator]
    better = [one for one in both if (one.rounds, one.bytes) != (row.rounds, row.bytes)]
    if better:
        best = min(better, key=lambda one: (one.rounds, one.bytes))
        return f"fitted: {best.rounds} rounds, {best.bytes:.1f} B, error {best.error:.2g}"
    fewer = [one for one in near if one.rounds < row.rounds or one.bytes < row.bytes]  # type: ignore[operator]
    if fewer:
        best = min(fewer, key=lambda one: (one.bytes, one.rounds))
        which = "fewer rounds" if best.rounds < row.rounds else "fewer bytes"  # type: ignore[operator]
        return f"fitted, {which} only: {best.rounds} rounds, {best.bytes:.1f} B, error {best.error:.2g}"
    if both:
        return f"fitted, at the same cost: error {min(one.error for one in both):.2g}"
    return "**the published entry wins**" + (" (it is another function)" if row.level == "structural" else "")


def page(rows: Sequence[Row]) -> str:
    """docs/approximations.md."""
    parts = [HEAD, _wins(rows), ""]
    for operator, title in TITLES.items():
        for values, where in SETS.items():
            here = [r for r in rows if (r.operator, r.values) == (operator, values)]
            fitted = pareto([r for r in here if not r.published])
            parts.append(f"## {title}, {where}")
            parts.append("| fitted, none beaten by another | rounds | bytes | error |\n| --- | ---: | ---: | ---: |")
            parts += [f"| `{r.name}` | {r.rounds} | {r.bytes:.1f} | {r.error:.2g} |" for r in fitted]
            parts.append("\n| published | rounds | bytes | error | for at most that error |")
            parts.append("| --- | ---: | ---: | ---: | --- |")
            for r in (r for r in here if r.published):
                cells = (r.rounds, f"{r.bytes:.1f}", f"{r.error:.2g}") if r.rounds is not None else ("", "", "")
                parts.append("| " + " | ".join(map(str, (r.name, *cells, verdict(r, fitted)))) + " |")
            parts.append("")
    return "\n".join(parts)


HEAD = f"""# Fitted approximations beside published ones
<!-- written by: python -m benchmarks.approximations -->
Rounds and bytes (both directions, an element of the operator's input) are those of the scheduled program, exact, without
opening the result. Errors are the largest absolute ones of the engine's fixed point. *Fashion ViT*: block {BLOCK} of
`examples/fashion_vit`, fitted on {FITTED_ON} training images, measured on {MEASURED_ON} test images. *[-10, 10]*: values
drawn evenly, fitted on one draw, measured on another. Published ones run on this engine, too: with its comparisons, masks
and truncations, which are cheaper than those of the papers.

Structural ones (another function, which wants training) are cheaper than anything that is near. With a single threshold
the fitted spline is ReLU itself.

Not here: SecFormer's seven sines for erf (error 5.8e-2, above every fitted candidate's; two comparisons and one opening), since
the engine has no sine; Linformer, which is a change of the model and has to be trained.

![error against rounds and bytes](approximations.png)
"""


def unbeaten(rows: Sequence[Row]) -> list[Row]:
    """Published entries that keep the function and for which no fitted candidate has at most the error, rounds and bytes, and
    fewer rounds or bytes."""
    return [
        row for row in rows
        if row.published and row.level != "structural" and not verdict(row, family(rows, row)).startswith("fitted:")
    ]  # fmt: skip


def family(rows: Sequence[Row], beside: Row) -> list[Row]:
    """The fitted candidates on the same operator and values, without those that another one beats."""
    return pareto([r for r in rows if not r.published and (r.operator, r.values) == (beside.operator, beside.values)])


def _wins(rows: Sequence[Row]) -> str:
    """Whether all published entries that keep the function are beaten; those that are not, with the nearest fitted one."""
    lines = []
    for row in unbeaten(rows):
        near = min(family(rows, row), key=lambda one: one.error)
        own, best = (f"{r.rounds} rounds, {r.bytes:.1f} B, error {r.error:.2g}" for r in (row, near))
        where = f"{TITLES[row.operator]}, {SETS[row.values]}"
        lines.append(f"* {where}: {row.name} ({own}); the most accurate fitted one: {best}")
    if not lines:
        return (
            "For every published entry that keeps the function, some fitted candidate has at most its error, at most its rounds\n"
            "and at most its bytes, and fewer rounds or fewer bytes."
        )
    return "Published entries that keep the function and that no fitted candidate beats at their error:\n" + "\n".join(lines)


def _plain(row: Row) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: None if value != value else value for name, value in asdict(row).items()}


def _read(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None and name in ("bytes", "error") else value for name, value in row.items()}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Error against bytes and against rounds, an operator a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(TITLES), 2, figsize=(10, 11), layout="constrained")
    for line, (operator, title) in zip(axes, TITLES.items(), strict=True):
        here = [r for r in rows if r.operator == operator and r.values == "vit" and r.rounds is not None]
        if not here:
            continue
        for axis, quantity in zip(line, ("rounds", "bytes"), strict=True):
            for from_paper, colour, mark in ((False, "tab:blue", "o"), (True, "tab:red", "x")):
                chosen = [r for r in here if r.published == from_paper]
                axis.scatter([getattr(r, quantity) for r in chosen], [r.error for r in chosen], c=colour, marker=mark,
                             label="published" if from_paper else "fitted", s=24)  # fmt: skip
            for r in here:
                if r.published:
                    place = (getattr(r, quantity), r.error)
                    axis.annotate(r.name[:28], place, fontsize=6, xytext=(3, 3), textcoords="offset points")
            axis.set(yscale="log", xlabel=quantity if quantity == "rounds" else "bytes an element", ylabel="largest error")
            axis.set_title(f"{title}, Fashion ViT", fontsize=9)
    axes[0][0].legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    parser.add_argument(
        "--operators", nargs="*", default=list(TITLES), choices=list(TITLES), help="measure these again, keep the others"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = options.output / "approximations.json"
    kept = json.loads(place.read_text(encoding="utf-8")) if place.exists() else []
    rows = [Row(**_read(row)) for row in kept if row["operator"] not in options.operators]
    for operator in options.operators:
        fitted_on, measured_on = activations(operator)
        rows += measured(operator, "vit", fitted_on, measured_on)
        shape = fitted_on.shape[1:]
        rows += measured(operator, "uniform", uniform(shape, 1), uniform(shape, 2))
    options.output.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps([_plain(r) for r in rows], indent=1) + "\n", encoding="utf-8")
    (options.output / "approximations.md").write_text(page(rows), encoding="utf-8")
    draw(rows, options.output / "approximations.png")


if __name__ == "__main__":
    main()
