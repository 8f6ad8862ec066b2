"""MPCViT's comparison: trains every row for every seed and writes a JSON file for each; goes on where it was stopped.

    python benchmarks/mpcvit/run.py                              Fashion-MNIST, three seeds
    python benchmarks/mpcvit/run.py --setting mnist --seeds 1
    python benchmarks/mpcvit/run.py --setting cifar-10 --data photos/     the paper's model and recipe, on your images

What is trained lies in `work/` (checkpoints, bundles), what was found in `results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from model import Vit, example  # noqa: E402
from settings import SETTINGS, Row, Setting, rows  # noqa: E402

import mpcc  # noqa: E402
from mpcc.cost import Budget, Network  # noqa: E402
from mpcc.search.tuning import NONE, Checkpoint, Data, Group, Recipe, Stage, Trainer, load_data, method, replaced, taps  # noqa: E402
from mpcc.tune import Tuning, Wanted  # noqa: E402

NETWORK = "wan"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="fashion")
    parser.add_argument("--data", help="instead of the setting's own")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", help="only those keys, such as mpcvit-0.5")
    given = parser.parse_args()
    torch.set_num_threads(1)
    setting = SETTINGS[given.setting]
    for seed in range(given.seeds):
        data = load_data(given.data or setting.data, example(setting.size)[0].shape, seed, setting.images)
        graph = teacher(setting, data, seed)
        for row in rows(setting):
            place = HERE / "results" / f"{setting.name}-{row.key}-{seed}.json"
            if not place.exists() and (not given.rows or row.key in given.rows):
                write(place, found(setting, row, seed, graph, data))
                print(place.name, flush=True)


def teacher(setting: Setting, data: Data, seed: int) -> torch.fx.GraphModule:
    """The Softmax ViT, trained on the labels: what all rows start from and are distilled from."""
    place = HERE / "work" / f"{setting.name}-{seed}.safetensors"
    torch.manual_seed(seed)
    model = Vit(setting.size)
    if not place.exists():
        graph = mpcc.capture(model, example(setting.size))
        student = replaced(graph, {})
        recipe = Recipe(epochs=setting.teacher_epochs, batch=setting.batch, rate=setting.teacher_rate, seed=seed)
        stage = Stage("teacher", student, student, NONE, taps(graph, NONE))
        checkpoint = Checkpoint(place.with_suffix(".checkpoint"), f"teacher {setting} {seed}")
        trainer = Trainer(stage, data, recipe, 1, Group(), checkpoint, {}, print, lambda *_: None)
        trainer.run(checkpoint.read())
        place.parent.mkdir(exist_ok=True)
        save_file(trainer.best, place.with_suffix(".part"))
        os.replace(place.with_suffix(".part"), place)
        checkpoint.remove()
    model.load_state_dict(load_file(place))
    return mpcc.capture(model, example(setting.size))


def found(setting: Setting, row: Row, seed: int, graph: torch.fx.GraphModule, data: Data) -> dict[str, object]:
    """One row of one seed."""
    name = f"{setting.name}-{row.key}-{seed}"
    budget = None if row.budget is None else Budget.parse(row.budget)
    wanted = Wanted(
        method(row.method), budget, network=Network.parse(NETWORK), mu=row.mu, distil=row.distil, search_epochs=setting.search
    )
    recipe = Recipe(epochs=setting.train, batch=setting.batch, rate=setting.rate, seed=seed)
    work = HERE / "work" / f"{name}.checkpoint"
    tuning = Tuning(graph, data, wanted, recipe, lambda identity: Checkpoint(work, identity), report=print)
    made = tuning.run()
    made.optimized.save(HERE / "work" / f"{name}.mpcc")
    tuning.checkpoint.remove()
    estimate, baseline = made.optimized.estimate, made.optimized.baseline
    return {
        "setting": setting.name, "row": row.title, "key": row.key, "seed": seed, "arguments": row.arguments,
        "top1": made.accuracy, "original_top1": made.original_accuracy, "test_images": made.test_images,
        "seconds": float(estimate.seconds), "rounds": int(estimate.rounds), "bytes": int(estimate.bytes),
        "stock_seconds": float(baseline.seconds), "stock_rounds": int(baseline.rounds), "stock_bytes": int(baseline.bytes),
        "network": NETWORK, "fixed_point": dict(made.optimized.errors), "picks": {s: list(p) for s, p in made.picks.items()},
        "history": [asdict(r) for r in made.rows],
    }  # fmt: skip


def write(place: Path, document: dict[str, object]) -> None:
    """Beside, then renamed."""
    place.parent.mkdir(exist_ok=True)
    part = place.with_suffix(".part")
    part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(part, place)


if __name__ == "__main__":
    main()
