"""How the cost of one transformer block grows from 50 to 577 tokens, with fitted exponents: docs/tokens.png, .json.

    python -m benchmarks.tokens            compile at eight sizes and write both files
    python -m benchmarks.tokens --quick    three small sizes, nothing written

One block of width 256, 4 heads, MLP 512 with patch embedding and classifier, softmax and GELU. The classifier takes
the mean over the tokens, so that all of them are needed, as in every block but the last of a model with a class token
(there mpcc computes the class token's row alone). Costs are those of the program that is made for a wide-area network
without a budget; nothing is run. The attention matrix grows with the square of the tokens, all else in proportion, so
the exponent is fitted twice: over all sizes, and over the upper half. `predicted` says what `mpcc.search.growth`, of which a
report has its cost against tokens, makes of the program at FROM x FROM patches for every other size, to be held against it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy
import torch

from mpcc.cost import LAN, WAN, estimate_graph
from mpcc.cost.machine import REFERENCE
from mpcc.pipeline import prepare, task_of
from mpcc.pipeline.steps import accurate
from mpcc.program import Program
from mpcc.registry import protocol
from mpcc.search import growth
from mpcc.search.program_cost import program_estimate
from mpcc.search.target import Target
from tests.models.vit_lite import VisionTransformer, randomize, smooth_image

DOCS = Path(__file__).parents[1] / "docs"
SIDES = (7, 10, 12, 14, 16, 18, 21, 24)
"""Patches along a side: side^2 + 1 tokens."""
FROM = 10
"""The side whose program all others are predicted from."""
PATCH = 4
CURVES = (
    ("bytes", "online, mpcc"),
    ("stock_bytes", "online, stock CrypTen"),
    ("dealer_bytes", "from the dealer, mpcc"),
)


class PooledTransformer(VisionTransformer):
    """Classifies the mean of the tokens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


def cost(side: int) -> dict[str, Any]:
    """The cost of one inference at side^2 + 1 tokens."""
    model = randomize(PooledTransformer(image=side * PATCH, patch=PATCH, depth=1)).eval()
    calibration = torch.cat([smooth_image(side * PATCH, seed=seed) for seed in range(1000, 1008)])
    prepared = prepare(model, (calibration[:1],), calibration=calibration)
    task = task_of(prepared, Target(network=WAN, machine=REFERENCE))
    program = accurate(prepared, task).program
    terms = growth.Terms(prepared.whole, task.protocol, WAN, task.compute)
    stock = estimate_graph(prepared.source, protocol("crypten-stock"), LAN)
    found, own = program.cost, protocol("mpcc")
    return {
        "tokens": side * side + 1,
        "rounds": found.rounds,
        "bytes": found.bytes,
        "dealer_bytes": found.dealer_bytes,
        "setup_bytes": found.setup_bytes,
        "failure_probability": program.failure_probability,
        "lan_seconds": float(program_estimate(program, own, LAN, own.compute).seconds),
        "wan_seconds": float(program_estimate(program, own, WAN, own.compute).seconds),
        "stock_rounds": int(stock.rounds),
        "stock_bytes": int(stock.bytes),
        **({"predicted": predicted(terms, program)} if side == FROM else {}),
    }


def predicted(terms: growth.Terms, program: Program) -> list[dict[str, float]]:
    """What the program at one size says of all sizes."""
    found = terms.growth(program, [side * side + 1 for side in SIDES])
    return [{"tokens": one.tokens, "rounds": one.after.rounds, "bytes": one.after.bytes} for one in found.sizes]


def exponent(rows: list[dict[str, Any]], key: str) -> float:
    """The slope of log(cost) over log(tokens), by least squares."""
    tokens, costs = (numpy.log([row[name] for row in rows]) for name in ("tokens", key))
    return float(numpy.polyfit(tokens, costs, 1)[0])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), constrained_layout=True)
    tokens = [row["tokens"] for row in rows]
    for key, title in CURVES:
        label = f"{title}: tokens^{exponent(rows, key):.2f}"
        axes.loglog(tokens, [row[key] / 1e6 for row in rows], marker="o", markersize=4, label=label)
    axes.set_xticks(tokens, [str(count) for count in tokens])
    axes.minorticks_off()
    axes.set_xlabel("tokens")
    axes.set_ylabel("MB, both directions")
    axes.set_title("One block, width 256, softmax and GELU, one image")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three small sizes, nothing written")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    rows = []
    for side in SIDES[:3] if quick else SIDES:
        rows.append(cost(side))
        print(json.dumps(rows[-1]), flush=True)
    keys = ("bytes", "dealer_bytes", "stock_bytes", "lan_seconds", "wan_seconds")
    upper = rows[len(rows) // 2 :]
    exponents = {key: {"all": exponent(rows, key), "upper_half": exponent(upper, key)} for key in keys}
    print(json.dumps(exponents, indent=2))
    if quick:
        return
    here = next(row.pop("predicted") for row in rows if "predicted" in row)
    found = {"command": "python -m benchmarks.tokens", "exponents": exponents, "sizes": rows, "predicted": here}
    (DOCS / "tokens.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    draw(rows, DOCS / "tokens.png")


if __name__ == "__main__":
    main()
