"""One budget, four links: half of the accurate plan's predicted time, and what the search chooses for it on each.

    python -m benchmarks.links        the digits ViT; writes docs/links.json, of which docs/pareto.md makes its tables
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpcc import pipeline
from mpcc.approximate import Choice, Split
from mpcc.cost import Budget, Network
from mpcc.search.pricing import priced
from mpcc.search.questions import best_within_budget
from mpcc.search.search import Search
from mpcc.search.target import Objective
from mpcc.show.front import tally

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits_vit"
LINKS = {"thin": "2ms,200kB/s", "lan": "lan", "wan": "wan", "slow": "200ms,1GB/s"}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    prepared = pipeline.prepare(DIGITS / "model.onnx", calibration=DIGITS / "calibration.npz")
    search = Search.of(pipeline.task_of(prepared, objective=Objective("structural")))
    accurate = pipeline.first_plan(prepared, "bounded")
    found: dict[str, Any] = {}
    plans = {}
    tasks = {}
    for name, link in LINKS.items():
        here = search.under(replace(search.trials.task, network=Network.parse(link)))
        tasks[name] = here.trials.task
        budget = Budget(float(priced(here.trials.task, accurate).seconds) / 2, "seconds")
        found[name] = {"link": link, "budget": budget.amount}
        if (chosen := best_within_budget(here, budget)) is None:
            continue
        cost, plans[name] = chosen.point.estimate, chosen.point.plan
        found[name] |= {
            "seconds": float(cost.seconds), "rounds": int(cost.rounds), "bytes": float(cost.bytes),
            "loss": chosen.point.loss, "chosen": tally(plans[name].choices),
            "sites": {site: described(choice) for site, choice in plans[name].choices.items()},
        }  # fmt: skip
    for name, task in tasks.items():
        found[name]["of_plans"] = {other: float(priced(task, plan).seconds) for other, plan in plans.items()}
    (ROOT / "docs" / "links.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def described(choice: Choice | Split) -> str:
    """A choice for people: the approximation and its whole numbers and words."""
    if isinstance(choice, Split):
        return "; ".join(f"{part.label}: {described(part.choice)}" for part in choice.parts)
    short = [f"{key} {value}" for key, value in choice.options.items() if isinstance(value, int | str)]
    return " ".join([choice.approximation, *short])


def links_section(found: Mapping[str, Any]) -> list[str]:
    """The part of docs/pareto.md on links: what is chosen, where plans differ, what each costs on the others' links."""
    met = [name for name in found if "sites" in found[name]]
    lines = ["## Different links, different plans", "<!-- measured by: python -m benchmarks.links -->"]
    lines += ["The digits ViT for `mpcc`, structural, within half of the accurate plan's time on each link.", ""]
    lines += ["| link | budget | seconds | rounds | MB | quality loss | chosen |", "| --- | --: | --: | --: | --: | --: | --- |"]
    for name, row in found.items():
        start = f"| {name} ({row['link']}) | {row['budget']:.3g} s |"
        if name not in met:
            lines.append(f"{start} none meets it | | | | |")
            continue
        chosen = ", ".join(f"{key} {times}" for key, times in row["chosen"].items())
        lines.append(
            f"{start} {row['seconds']:.3g} | {row['rounds']} | {row['bytes'] / 1e6:.3g} | {row['loss']:.2g} | {chosen} |"
        )
    lines += ["", "What each plan takes on each link, in seconds:", ""]
    lines += ["| link | " + " | ".join(f"plan for {name}" for name in met) + " |", "| --- |" + " --: |" * len(met)]
    lines += [f"| {name} | " + " | ".join(f"{row['of_plans'][other]:.3g}" for other in met) + " |" for name, row in found.items()]
    lines += ["", "The sites where they differ:", "", "| site | " + " | ".join(met) + " |", "| --- |" + " --- |" * len(met)]
    for site in found[met[0]]["sites"] if met else ():
        row = [found[name]["sites"][site] for name in met]
        if len(set(row)) > 1:
            lines.append(f"| {site} | " + " | ".join(row) + " |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
