"""MPCViT's comparison: trains every row for every seed and writes a JSON file for each; resumes where it was interrupted.

    python -m benchmarks.mpcvit.run                              Fashion-MNIST, three seeds
    python -m benchmarks.mpcvit.run --setting mnist --seeds 1
    python -m benchmarks.mpcvit.run --setting fashion-full --device cuda --jobs 16      all its images, on a GPU
    python -m benchmarks.mpcvit.run --setting cifar-10 --data photos/     the paper's model and epochs, on your images

Checkpoints and bundles are written to `work/`, results to `results/`.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors.torch import load_file, save

import mpcc
from benchmarks.mpcvit.model import Vit, example
from benchmarks.mpcvit.settings import SETTINGS, Row, Setting, rows
from mpcc import files
from mpcc.approximate.recipe import LABELS_ONLY
from mpcc.errors import MpccError
from mpcc.training import (
    Checkpoint,
    Data,
    Group,
    Hyperparameters,
    Request,
    Stage,
    Trainer,
    Tuning,
    device_of,
    load_data,
    replaced,
    taps,
)

HERE = Path(__file__).parent
NETWORK = "wan"


@dataclass(frozen=True)
class Job:
    """One row of one seed, or the teacher of a seed, in a process of its own."""

    setting: Setting
    seed: int
    data: str
    device: str | None
    row: Row | None = None

    def __call__(self) -> None:
        torch.set_num_threads(1)
        data = load_data(self.data, example(self.setting.size)[0].shape, self.seed, self.setting.images)
        group = Group(device=device_of(self.device))
        graph = teacher(self.setting, data, self.seed, group)
        if self.row is not None:
            write(self.place, found(self.setting, self.row, self.seed, graph, data, group))

    @property
    def place(self) -> Path:
        assert self.row is not None
        return HERE / "results" / f"{self.setting.name}-{self.row.key}-{self.seed}.json"

    def report(self) -> str:
        return f"{self.setting.name}, seed {self.seed}: {'teacher' if self.row is None else self.row.title}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="fashion")
    parser.add_argument("--data", help="instead of the setting's own")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", help="only those keys, such as mpcvit-0.5")
    parser.add_argument("--device", help="what to train on, such as cpu or cuda (default: a GPU if there is one)")
    parser.add_argument("--jobs", type=int, default=1, help="rows that are trained side by side")
    given = parser.parse_args()
    setting = SETTINGS[given.setting]
    teachers = [Job(setting, seed, given.data or setting.data, given.device) for seed in range(given.seeds)]
    wanted = [replace(job, row=row) for row in rows(setting) for job in teachers if not given.rows or row.key in given.rows]
    failed = 0
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for jobs in (teachers, [job for job in wanted if not job.place.exists()]):
            running = {pool.submit(job): job for job in jobs}
            for done, future in enumerate(as_completed(running), 1):
                error = future.exception()
                failed += error is not None
                print(f"{done}/{len(jobs)}  {running[future].report()}{'' if error is None else f': {error!r}'}", flush=True)
            if failed and jobs is teachers:
                break
    sys.exit(bool(failed))


def teacher(setting: Setting, data: Data, seed: int, group: Group) -> torch.fx.GraphModule:
    """The Softmax ViT, trained on the labels: what all rows start from and are distilled from."""
    place = HERE / "work" / f"{setting.name}-{seed}.safetensors"
    torch.manual_seed(seed)
    model = Vit(setting.size)
    if not place.exists():
        graph = mpcc.capture(model, example(setting.size))
        student = replaced(graph, {})
        hyper = Hyperparameters(epochs=setting.teacher_epochs, batch=setting.batch, rate=setting.teacher_rate, seed=seed)
        stage = Stage("teacher", student, student, LABELS_ONLY, taps(graph, LABELS_ONLY))
        checkpoint = Checkpoint(place.with_suffix(".checkpoint"), f"teacher {setting} {seed}")
        trainer = Trainer(stage, data, hyper, 1, group, checkpoint, {}, _silent, _silent)
        trainer.run(checkpoint.read())
        place.parent.mkdir(exist_ok=True)
        files.write(place, save(trainer.best))
        checkpoint.remove()
    model.load_state_dict(load_file(place))
    return mpcc.capture(model, example(setting.size))


def found(
    setting: Setting, row: Row, seed: int, graph: torch.fx.GraphModule, data: Data, group: Group
) -> dict[str, object]:
    """One row of one seed. What mpcc refuses to make is a row with its reason."""
    name = f"{setting.name}-{row.key}-{seed}"
    request = Request.of(
        row.method, budget=row.budget, network=NETWORK, mu=row.mu, distil=row.distil, search_epochs=setting.search
    )
    hyper = Hyperparameters(epochs=row.epochs or setting.train, batch=setting.batch, rate=setting.rate, seed=seed)
    tuning = Tuning(graph, data, request, hyper, HERE / "work" / f"{name}.checkpoint", group=group)
    document = {"setting": setting.name, "row": row.title, "key": row.key, "seed": seed, "arguments": row.arguments}
    try:
        made = tuning.run()
    except MpccError as error:
        return document | {"refused": str(error)}
    made.save(HERE / "work" / f"{name}.mpcc")
    estimate, baseline = made.optimized.estimate, made.optimized.baseline
    return document | {
        "top1": made.accuracy, "original_top1": made.original_accuracy, "test_images": made.test_images,
        "seconds": float(estimate.seconds), "rounds": int(estimate.rounds), "bytes": int(estimate.bytes),
        "stock_seconds": float(baseline.seconds), "stock_rounds": int(baseline.rounds), "stock_bytes": int(baseline.bytes),
        "network": NETWORK, "fixed_point": dict(made.optimized.errors), "picks": {s: list(p) for s, p in made.picks.items()},
        "history": [asdict(r) for r in made.rows],
    }  # fmt: skip


def _silent(*_: object) -> None:
    pass


def write(place: Path, document: dict[str, object]) -> None:
    """The figures of a run, whole or not at all."""
    place.parent.mkdir(exist_ok=True)
    files.write(place, json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
