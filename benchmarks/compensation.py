"""Structural plans as they are and compensated, on the zoo and Fashion-MNIST: docs/compensation.md.

    python -m benchmarks.compensation                     what is missing; written after each row
    python -m benchmarks.compensation --half tune         only the half on which constants may be chosen
    python -m benchmarks.compensation --reconstruct 300 pre_norm distilled      rows with steps of gradient in each block as well
    python -m benchmarks.compensation --again             measures anew what docs/compensation.json has already

Each row replaces an operator everywhere, or in the last three layers. CPU seconds are those of the compensation alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from benchmarks.zoo.models import ZOO
from examples.fashion_vit.model import fashion_vit
from mpcc import files, registry
from mpcc.approximate import Plan, SiteStatistics
from mpcc.approximate.recipe import KEEP, Use
from mpcc.calibration.range_check import structural_functions
from mpcc.calibration.ranges import outputs_with
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.compensate import FULL, Judge, compensated
from mpcc.ir.nn import site_operator, sites
from mpcc.pipeline import transform
from mpcc.search.metrics import CLASSES
from mpcc.search.recipes import chosen
from mpcc.training.datasets import built_in

DOCS = Path(__file__).parents[1] / "docs"
JSON, HEAD = DOCS / "compensation.json", Path(__file__).with_suffix(".md")
GIVEN, MOST, LAST = 256, 2000, 3
ROWS: Mapping[str, Mapping[str, tuple[str, int | None]]] = {
    "parabola for GELU": {"gelu": ("gelu_quad", None)},
    "no GELU, last 3": {"gelu": ("gelu_identity", LAST)},
    "ReLU-softmax": {"softmax": ("softmax_relu", None)},
    "2Quad": {"softmax": ("softmax_2quad", None)},
    "MPCFormer's recipe": {"softmax": ("softmax_2quad", None), "gelu": ("gelu_quad", None)},
    "scaling attention": {"softmax": ("softmax_scaling", None)},
    "scaling attention, last 3": {"softmax": ("softmax_scaling", LAST)},
}


@dataclass(frozen=True)
class Row:
    """One plan of one model: accuracies in percent, mean divergence of the classes from the model as it was, CPU seconds."""

    model: str
    half: str
    plan: str
    images: int
    given: int
    float_accuracy: float
    plain: float
    compensated: float
    divergence_plain: float
    divergence: float
    cpu_seconds: float
    steps: int = 0


def models(half: str | None) -> Iterator[tuple[str, str, nn.Module, Tensor, Tensor, Tensor]]:
    """(name, half, model, training images, test images, test labels)."""
    for entry in ZOO.values():
        if half in (None, entry.half):
            data = entry.data()
            yield entry.name, entry.half, entry.model(), data.training.images, data.test.images, data.test.labels
    if half != "test":
        found = built_in("fashion-mnist")
        assert found.test is not None
        yield "examples/fashion_vit", "tune", fashion_vit()[0].eval(), found.images, *found.test


def plan_of(graph: fx.GraphModule, inputs: Tensor, row: Mapping[str, tuple[str, int | None]]) -> Plan | None:
    """The plan of a row, None where the model has none of its operators."""
    wanted: dict[str, Use] = {}
    for operator, (name, last) in row.items():
        own = [site for site in sites(graph) if site_operator(site) == operator]
        wanted |= {site: Use(name) for site in own[-last if last else None :]}
    known = registry.approximations()

    def choose(seen: SiteStatistics) -> object:
        return chosen(wanted.get(seen.site.name, KEEP), seen, known, "of this row")

    return fit_sequentially(graph, inputs, choose, known) if wanted else None  # type: ignore[arg-type]


def measured(
    name: str, half: str, model: nn.Module, training: Tensor, images: Tensor, labels: Tensor, plan: str, steps: int
) -> Row | None:
    """One row, None where it does not apply."""
    graph, known = transform(model, (training[:1],)), registry.approximations()
    inputs = training[torch.randperm(len(training), generator=torch.Generator().manual_seed(0))[:GIVEN]]
    made = plan_of(graph, inputs, ROWS[plan])
    if made is None:
        return None
    start = time.process_time()
    judge = Judge(CLASSES.loss, CLASSES.drop, CLASSES.drop_name)
    found = compensated(graph, made, inputs, known, judge, effort=replace(FULL, steps=steps))
    seconds = time.process_time() - start
    expected = outputs_with(graph, images, {})
    plain = outputs_with(graph, images, structural_functions(graph, made, known))
    after = outputs_with(found.graph, images, structural_functions(found.graph, found.plan, known))

    def accuracy(outputs: tuple[Tensor, ...]) -> float:
        return 100 * float((outputs[0].flatten(0, 1).argmax(-1) == labels).double().mean())

    return Row(
        name, half, plan, len(images), GIVEN, accuracy(expected), accuracy(plain), accuracy(after),
        CLASSES.loss(plain, expected), CLASSES.loss(after, expected), seconds, steps,
    )  # fmt: skip


def shown(accuracy: float, images: int) -> str:
    """An accuracy with its standard error."""
    share = accuracy / 100
    return f"{accuracy:.1f} ± {100 * math.sqrt(max(share * (1 - share), 0.0) / images):.1f}"


def page(rows: list[Row]) -> str:
    """docs/compensation.md."""
    lines = [
        "| model | half | test images | plan | float | as it is | compensated | divergence | CPU s |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        plan = f"{row.plan}, then {row.steps} steps" if row.steps else row.plan
        lines.append(
            f"| {row.model} | {row.half} | {row.images} | {plan} | {row.float_accuracy:.1f} | {shown(row.plain, row.images)} "
            f"| {shown(row.compensated, row.images)} | {row.divergence_plain:.3f} -> {row.divergence:.3f} "
            f"| {row.cpu_seconds:.1f} |"
        )
    return (
        HEAD.read_text(encoding="utf-8").replace("{table}", "\n".join(lines)).replace("{images}", str(GIVEN))
        .replace("{more}", summary(rows))
    )  # fmt: skip


def summary(rows: list[Row]) -> str:
    """Points lost on average, by half."""
    found = []
    for half in ("tune", "test"):
        own = [row for row in rows if row.half == half and not row.steps]
        if own:
            before = sum(row.float_accuracy - row.plain for row in own) / len(own)
            after = sum(row.float_accuracy - row.compensated for row in own) / len(own)
            worse = sum(row.divergence > row.divergence_plain for row in own)
            found.append(
                f"Half {half}, {len(own)} rows: {before:.1f} points lost on average as it is, {after:.1f} compensated; "
                f"a larger divergence from the model as it was in {worse}."
            )
    return " ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="MODEL", help="models of the zoo (default: all)")
    parser.add_argument("--most", type=int, default=MOST, help="test images of a model")
    parser.add_argument("--reconstruct", type=int, default=0, metavar="STEPS", help="steps of gradient in each block as well")
    parser.add_argument("--half", choices=("tune", "test"), help="only one half")
    parser.add_argument("--again", action="store_true", help="measure rows anew that have been measured")
    options = parser.parse_args()
    read = [Row(**row) for row in json.loads(JSON.read_text("utf-8"))] if JSON.exists() else []
    found = {(row.model, row.plan, row.steps): row for row in read}
    for name, half, model, training, images, labels in models(options.half):
        for plan in ROWS if name in (options.names or (name,)) else ():
            if (name, plan, options.reconstruct) in found and not options.again:
                continue
            row = measured(name, half, model, training, images[: options.most], labels[: options.most], plan, options.reconstruct)
            if row is None:
                continue
            found[name, plan, options.reconstruct] = row
            print(row, flush=True)
            rows = list(found.values())
            files.write(JSON, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
            files.write(DOCS / "compensation.md", page(rows))


if __name__ == "__main__":
    main()
