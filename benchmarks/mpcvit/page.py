"""docs/mpcvit.md, its picture and docs/mpcvit.json, from what run.py and measure.py left in results/.

    python -m benchmarks.mpcvit.page                      of the setting fashion-full
    python -m benchmarks.mpcvit.page --setting fashion    docs/mpcvit-fashion.md and so on
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt  # noqa: E402

from benchmarks.mpcvit.settings import SETTINGS, Setting, rows  # noqa: E402

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
MAIN = "fashion-full"
FAMILIES = {"mpcc": "o", "mpcvit": "s", "mpcvit+": "^", "softmax": "*", "scaling": "v", "relu-softmax": "D", "mpcformer": "P"}


@dataclass(frozen=True)
class Line:
    """A row over its seeds: means, the standard error of top-1 (in points, over seeds), and why a seed is missing.

    `original`: top-1 of the models that these seeds started from.
    """

    key: str
    title: str
    arguments: str
    seconds: float
    rounds: float
    megabytes: float
    top1: float
    original: float
    error: float
    seeds: int
    fixed: float
    refused: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default=MAIN)
    setting = SETTINGS[parser.parse_args().setting]
    found = {row.key: _read(setting, row.key) for row in rows(setting)}
    lines = [line(documents) for documents in found.values() if documents]
    some = next(d for documents in found.values() for d in documents if "top1" in d)
    whole = [d for documents in found.values() for d in documents if "top1" in d]
    original = statistics.mean(100 * d["original_top1"] for d in found["softmax-labels"])
    place = HERE / "results" / f"{setting.name}-measured.json"
    measured = json.loads(place.read_text()) if place.exists() else None
    document = {
        "setting": asdict(setting), "original_top1": original, "test_images": some["test_images"],
        "network": some["network"], "lines": [asdict(one) for one in lines], "measured": measured,
        "seeds": [{k: d[k] for k in ("key", "seed", "top1", "seconds", "rounds", "bytes", "picks")} for d in whole],
        "stock": {k: some[f"stock_{k}"] for k in ("seconds", "rounds", "bytes")},
    }  # fmt: skip
    stem = "mpcvit" if setting.name == MAIN else f"mpcvit-{setting.name}"
    (DOCS / f"{stem}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draw(lines, original, DOCS / f"{stem}.svg")
    (DOCS / f"{stem}.md").write_text(page(setting, document, lines, stem), encoding="utf-8")


def _read(setting: Setting, key: str) -> list[dict[str, Any]]:
    places = sorted((HERE / "results").glob(f"{setting.name}-{key}-[0-9].json"))
    return [json.loads(place.read_text(encoding="utf-8")) for place in places]


def line(documents: Sequence[Mapping[str, Any]]) -> Line:
    """The mean over the seeds that have a result."""
    first, made = documents[0], [d for d in documents if "top1" in d]
    refused = next((str(d["refused"]).splitlines()[0] for d in documents if "refused" in d), "")
    if not made:
        nan = float("nan")
        return Line(first["key"], first["row"], first["arguments"], nan, nan, nan, nan, nan, nan, 0, nan, refused)
    top1 = [100 * d["top1"] for d in made]
    error = statistics.stdev(top1) / len(top1) ** 0.5 if len(top1) > 1 else float("nan")
    return Line(
        first["key"], first["row"], first["arguments"], statistics.mean(d["seconds"] for d in made),
        statistics.mean(d["rounds"] for d in made), statistics.mean(d["bytes"] for d in made) / 1e6,
        statistics.mean(top1), statistics.mean(100 * d["original_top1"] for d in made), error, len(made),
        max(d["fixed_point"]["mean_error"] for d in made), refused,
    )  # fmt: skip


def page(setting: Setting, document: Mapping[str, Any], lines: Sequence[Line], stem: str) -> str:
    """The whole page."""
    size, images = setting.size, setting.images or 54000
    text = [
        "# MPCViT's comparison, trained",
        "<!-- written by: python -m benchmarks.mpcvit.page -->",
        f"A ViT of MPCViT's structure ({size.depth} layers, {size.heads} heads, dimension {size.dim}, "
        f"{(size.side // size.patch) ** 2 + 1} tokens, exact GELU) on Fashion-MNIST: {images:,} training images, "
        f"{document['test_images']:,} test images that nothing else looked at. Every row starts from the same trained Softmax "
        f"ViT ({document['original_top1']:.2f} %, the mean of its seeds), is searched for {setting.search} epochs and trained "
        f"for {setting.train} ({setting.search + setting.train} where there is nothing to search). Seconds are the predicted "
        f"online phase on {document['network']} (40 ms, 44 MB/s) of the program that was made, with mpcc's engine for every "
        "row: the differences are the methods' alone. +- is the standard error over the seeds.",
        "",
        f"![top-1 over seconds]({stem}.svg)",
        "",
        "| row | `mpcc tune` | seconds | rounds | MB | top-1 % | seeds | largest mean error in fixed point |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in sorted((x for x in lines if x.seeds), key=lambda x: x.seconds):
        text.append(
            f"| {one.title} | `{one.arguments}` | {one.seconds:.2f} | {one.rounds:.0f} | {one.megabytes:.2f} | "
            f"{one.top1:.2f}{f' +- {one.error:.2f}' if one.seeds > 1 else ''} | {one.seeds} | {one.fixed:.2g} |"
        )
    for one in lines:
        if one.refused:
            text.append(f"| {one.title} | `{one.arguments}` | refused | | | | {one.seeds} | {one.refused} |")
    text += ["", *verdicts(document, {one.key: one for one in lines}), ""]
    return "\n".join(text)


def verdicts(document: Mapping[str, Any], by: Mapping[str, Line]) -> list[str]:
    """The paper's ordering and our claims, each held against the table."""
    found = ["## What agrees with the paper, and what does not", ""]
    made = [one for one in by.values() if one.seeds]
    slowest = max(made, key=lambda one: one.seconds)
    found.append(f"* Slowest: {slowest.title}, {slowest.seconds:.2f} s.")
    for name, other in (("mpcformer", "MPCFormer"), ("the-x", "THE-X")):
        rival = by.get(name)
        if rival is None or not rival.seeds:
            found.append(f"* {other} has no result to compare with: {rival.refused if rival else 'not run'}.")
            continue
        faster = [o for k, o in by.items() if k.startswith("mpcvit-") and o.seconds < rival.seconds]
        better = [o.title for o in faster if o.top1 > rival.top1]
        found.append(f"* Above {other} at a lower latency: {', '.join(better) or 'no row of MPCViT'}.")
    for distilled, plain in [(k, f"{k}-labels") for k in by if f"{k}-labels" in by]:
        if by[distilled].seeds and by[plain].seeds:
            gain = by[distilled].top1 - by[plain].top1
            spread = (by[distilled].error ** 2 + by[plain].error ** 2) ** 0.5
            found.append(f"* Distillation, {by[distilled].title}: {gain:+.2f} +- {spread:.2f} points against labels only.")
    for mu in ("0.1", "0.3", "0.5", "0.7"):
        one, plus = by.get(f"mpcvit-{mu}"), by.get(f"mpcvit+-{mu}")
        if one and plus and one.seeds and plus.seeds:
            faster, gain = one.seconds - plus.seconds, plus.top1 - one.top1
            found.append(f"* MPCViT+ at mu = {mu}: {faster:.2f} s faster than MPCViT, {gain:+.2f} points.")
    return [*found, "", "## mpcc's own search", "", *_own(document, by)]


def _own(document: Mapping[str, Any], by: Mapping[str, Line]) -> list[str]:
    found = []
    own = [one for key, one in by.items() if key.startswith("mpcc-") and one.seeds]
    alike = [one for one in own if "epochs" not in one.key]  # trained for as long as the others
    rivals = [one for key, one in by.items() if key.startswith("mpcvit") and one.seeds]
    above = [r.title for r in rivals if not any(o.seconds <= r.seconds and o.top1 >= r.top1 for o in alike)]
    found.append(
        f"* Of {len(rivals)} rows of MPCViT and MPCViT+, {len(rivals) - len(above)} are dominated by a row of mpcc (as fast, "
        f"as accurate, by the means). Not dominated: {', '.join(above) or 'none'}."
    )
    exact = by["softmax-labels"]
    within = [o for o in own if o.seconds <= exact.seconds / 2]
    if within:
        best = max(within, key=lambda o: o.top1)
        found.append(
            f"* Within half the latency of the exact optimised plan ({exact.seconds / 2:.2f} s): {best.title}, "
            f"{best.seconds:.2f} s, {best.top1:.2f} % ({best.seeds} of {exact.seeds} seeds): {best.top1 - best.original:+.2f} "
            f"points from the Softmax ViT that it starts from, and {best.top1 - exact.top1:+.2f} from the same trained on."
        )
    stock, measured = document["stock"], document["measured"]
    equal = [o for o in own if o.top1 + o.error >= document["original_top1"]]
    if equal:
        best = min(equal, key=lambda o: o.seconds)
        found.append(
            f"* Predicted, stock CrypTen on the Softmax ViT over {best.title} at equal accuracy within the error: "
            f"{stock['seconds']:.1f} s / {best.seconds:.2f} s = {stock['seconds'] / best.seconds:.1f} times."
        )
    if measured:
        one, other = measured["stock"], measured["mpcc"]
        middle = statistics.median(other["seconds"])
        found.append(
            f"* Measured on the emulated {measured['network']} (network namespaces, seed 0, {measured['row']}): stock "
            f"{one['seconds']:.1f} s, {one['rounds']} rounds, {one['bytes'] / 1e6:.1f} MB; mpcc {middle:.2f} s (middle of "
            f"{len(other['seconds'])}), {other['rounds']} rounds, {other['bytes'] / 1e6:.2f} MB: "
            f"{one['seconds'] / middle:.1f} times. The private outputs are {measured['off_emulation']:.2g} off the emulation."
        )
    again = (
        "Run again: `python -m benchmarks.mpcvit.run --setting fashion-full --device cuda --jobs 16` (9 minutes on one H100 with "
        "16 cores), then `python -m benchmarks.mpcvit.measure` and `.page`. `make bench-mpcvit` trains on a ninth of the "
        "images, in hours on two cores."
    )
    return [*found, "", again]


def draw(lines: Sequence[Line], original: float, place: Path) -> None:
    """Top-1 over seconds, a mark for each method; filled: distilled."""
    plt.rcParams["svg.hashsalt"] = "mpcc"
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    for number, (family, mark) in enumerate(FAMILIES.items()):
        for labels in (False, True):
            chosen = [x for x in lines if x.seeds and _family(x.key) == family and x.key.endswith("-labels") == labels]
            if chosen:
                axes.errorbar(
                    [x.seconds for x in chosen], [x.top1 for x in chosen], [x.error for x in chosen], fmt=mark,
                    color=f"C{number}", mfc="none" if labels else f"C{number}", capsize=2,
                    label=family + (", labels only" if labels else ""),
                )  # fmt: skip
    axes.axhline(original, color="grey", linewidth=0.8, linestyle="--", label="the model that all start from")
    axes.set(xlabel="predicted online seconds, wan", ylabel="top-1 %, test images")
    axes.legend(fontsize=7, ncol=2)
    axes.grid(alpha=0.3)
    figure.savefig(place, metadata={"Date": None}, bbox_inches="tight")


def _family(key: str) -> str:
    return next(f for f in sorted(FAMILIES, key=len, reverse=True) if key == f or key.startswith(f"{f}-"))


if __name__ == "__main__":
    main()
