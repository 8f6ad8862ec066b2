"""One budget, four links: half of the accurate plan's predicted time, and what the search chooses for it on each.

    python benchmarks/links.py        prints the table of docs/search.md, for the digits ViT
"""

from __future__ import annotations

from pathlib import Path

from mpcc import pipeline, registry
from mpcc.bundle.front import tally
from mpcc.choose import Search, priced
from mpcc.cost import Budget, Network

DIGITS = Path(__file__).parents[1] / "examples" / "digits_vit"
LINKS = {"thin": "2ms,200kB/s", "lan": "lan", "wan": "wan", "slow": "200ms,1GB/s"}


def main() -> None:
    prepared = pipeline.prepare(DIGITS / "model.onnx", calibration=DIGITS / "calibration.npz")
    search = Search(pipeline.task_of(prepared, level="structural"))
    accurate = pipeline.first_plan(prepared, "bounded")
    print("| link | budget | seconds | rounds | MB | damage | chosen |")
    print("| --- | --: | --: | --: | --: | --: | --- |", flush=True)
    for name, link in LINKS.items():
        here = search.under(registry.protocol("crypten"), Network.parse(link))
        budget = Budget(float(priced(here.task, accurate).seconds) / 2, "seconds")
        found = here.within(budget)
        if found is None:
            print(f"| {name} ({link}) | {budget.amount:.3g} s | none meets it | | | | |", flush=True)
            continue
        cost, chosen = found.point.estimate, ", ".join(f"{k} {n}" for k, n in tally(found.point.plan.choices).items())
        print(
            f"| {name} ({link}) | {budget.amount:.3g} s | {float(cost.seconds):.3g} | {int(cost.rounds)} | "
            f"{float(cost.bytes) / 1e6:.3g} | {found.point.damage:.2g} | {chosen} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
