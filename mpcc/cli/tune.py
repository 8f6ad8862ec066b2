"""mpcc tune: search with training under a budget, distil from the original model, and write a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .screen import console, emit, progress, say

if TYPE_CHECKING:
    from mpcc.training import Row
    from mpcc.training.tune import Tuned

EPILOG = (
    "Examples: mpcc tune model.onnx --data digits --budget 2s --network wan\n\n"
    "mpcc tune vit.py:make_model --data photos/ --method mpcvit --mu 0.5 -o private.mpcc\n\n"
    "torchrun --nproc-per-node 2 --no-python mpcc tune model.onnx --data my_data:training --budget 30MB\n\n"
    "A training that was stopped goes on when the same command is given again."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tune", epilog=EPILOG)(tune)


def tune(
    model: options.Model,
    data: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="Labelled images: digits, fashion-mnist, mnist-5k, a folder with one of images for each class, an .npz "
            "with `images` and `labels`, or package.module:function that gives a torch Dataset.",
        ),
    ],
    budget: Annotated[
        str | None, typer.Option(metavar="2s", help="Most online seconds, bytes or rounds: 2s, 30MB, 150rounds.")
    ] = None,
    protocol: options.Protocol = "crypten",
    network: options.Network = "lan",
    method: Annotated[
        str,
        typer.Option(
            metavar="M", help="mpcc, mpcvit, mpcvit+, mpcformer, the-x, relu-softmax, scaling, or softmax (nothing replaced)."
        ),
    ] = "mpcc",
    mu: Annotated[float | None, typer.Option(metavar="0.5", help="mpcvit's share of heads that keep a ReLU-softmax.")] = None,
    granularity: Annotated[
        str | None, typer.Option(metavar="G", help="Choose for each head, token or layer (default: as the method does).")
    ] = None,
    distil: Annotated[bool, typer.Option(help="Distil from the original model; without, train on the labels.")] = True,
    attention_maps: Annotated[bool, typer.Option("--attention-maps", help="Distil the attention maps as well.")] = False,
    search_epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Epochs of the search.")] = 5,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Epochs of training after it.")] = 10,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Images a step, over all processes.")] = 128,
    rate: Annotated[float, typer.Option(metavar="1e-3", min=0, help="Learning rate of the weights.")] = 1e-3,
    images: Annotated[int | None, typer.Option(metavar="N", min=1, help="Use so many training images at most.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the split, the order and the augmentation.")] = 0,
    device: Annotated[
        str | None, typer.Option(metavar="D", help="What to train on: cpu, cuda, cuda:1 (default: a GPU if there is one).")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to keep the checkpoint (BUNDLE.checkpoint).")
    ] = None,
    input_shape: options.InputShape = None,
    size_limit: options.SizeLimit = 1.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder to write (MODEL.mpcc).")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Search a model's attention and activations with training, under a budget, distil, and write a bundle."""
    from mpcc import registry
    from mpcc.bundle.write import check_place
    from mpcc.cost import Budget, Network
    from mpcc.errors import UsageError
    from mpcc.ir.nn import inputs_of
    from mpcc.training import GRANULARITIES, Checkpoint, Recipe, group, load_data
    from mpcc.training import method as method_of
    from mpcc.training.tune import Tuning, Wanted

    from .model import graph, source

    if granularity is not None and granularity not in GRANULARITIES:
        raise UsageError(f"there is no granularity {granularity!r}", hint="One of: " + ", ".join(GRANULARITIES))
    registry.protocol(protocol)
    wanted = Wanted(
        method_of(method), None if budget is None else Budget.parse(budget), protocol, Network.parse(network), mu,
        granularity, distil, attention_maps, search_epochs,
    )  # fmt: skip
    wanted.check()
    found = source(model, size_limit)
    place = output or Path(f"{found.stem}.mpcc")
    check_place(place)
    kept = checkpoint or place.with_name(f"{place.name}.checkpoint")
    captured = graph(found, input_shape)
    loaded = load_data(data, tuple(inputs_of(captured)[0].meta["val"].shape), seed, images)
    with group(device) as members, progress() as tell:
        tuning = Tuning(
            captured, loaded, wanted, Recipe(epochs=epochs, batch=batch, rate=rate, seed=seed),
            lambda identity: Checkpoint(kept, identity),
            group=members, report=_report if members.first else _silent, tell=tell if members.first else _nothing,
        )  # fmt: skip
        made = tuning.run()
        if members.first:
            made.optimized.save(place)
            tuning.checkpoint.remove()
        members.wait()
        if not members.first:
            return
    if as_json:
        emit(document(made, place))
    else:
        show(made, place)


def _report(row: Row) -> None:
    cost = "" if row.predicted is None else f"  predicted {row.predicted:.4g}"
    say(f"{row.stage} epoch {row.epoch:3d}  loss {row.loss:.4f}  validation top-1 {100 * row.accuracy:.2f} %{cost}")


def _silent(row: Row) -> None:
    pass


def _nothing(stage: str, done: int, total: int) -> None:
    pass


def document(made: Tuned, place: Path) -> dict[str, Any]:
    """The answer as JSON: that of `mpcc optimize`, and accuracy, history and picks."""
    from dataclasses import asdict

    from .optimize import document as optimized

    return {
        **optimized(made.optimized, place),
        "accuracy": made.accuracy,
        "standard_error": made.standard_error,
        "original_accuracy": made.original_accuracy,
        "validation_accuracy": made.validation_accuracy,
        "test_images": made.test_images,
        "history": [asdict(row) for row in made.rows],
        "picks": {site: list(names) for site, names in made.picks.items()},
    }


def show(made: Tuned, place: Path) -> None:
    """What `mpcc optimize` shows, and the accuracy."""
    from .optimize import show as optimized

    optimized(made.optimized, place)
    console().print(
        f"Top-1 on {made.test_images} test images: {100 * made.accuracy:.2f} % +- {100 * made.standard_error:.2f} "
        f"(the original model: {100 * made.original_accuracy:.2f} %)",
        highlight=False,
    )
