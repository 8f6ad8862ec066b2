"""mpcc tune: search with training under a budget, distil from the original model, and write a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import early, options
from .screen import console, emit, progress, say

if TYPE_CHECKING:
    from mpcc.training import Row, Tuned

EPILOG = (
    "Examples: mpcc tune model.onnx --data digits --budget 2s --network wan\n\n"
    "mpcc tune vit.py:make_model --data photos/ --method mpcvit:0.5 -o private.mpcc\n\n"
    "torchrun --nproc-per-node 2 --no-python mpcc tune model.onnx --data my_data:training --budget 30MB\n\n"
    "To resume an interrupted training, run the same command again."
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
            help="Labelled images: digits, fashion-mnist, mnist-5k, a folder with a subfolder per class, an .npz file with "
            "`images` and `labels`, or package.module:function that returns a torch Dataset.",
        ),
    ],
    budget: Annotated[
        str | None, typer.Option(metavar="2s", help="Limit of the online phase in seconds, bytes or rounds: 2s, 30MB, 150rounds.")
    ] = None,
    protocol: options.Protocol = "mpcc",
    network: options.Network = "lan",
    machine: options.Machine = None,
    method: Annotated[
        str, typer.Option(metavar="RECIPE", help="What may replace which operator: see `mpcc recipes`.")
    ] = "mpcc",
    mu: Annotated[
        float | None,
        typer.Option(metavar="0.5", help="The share of heads (or tokens) with a recipe's first alternative: MPCViT's mu."),
    ] = None,
    granularity: Annotated[
        str | None, typer.Option(metavar="G", help="Choose per head, token or layer (default: what the recipe says).")
    ] = None,
    distil: Annotated[bool, typer.Option(help="Distil from the original model, instead of training on labels alone.")] = True,
    attention_maps: Annotated[bool, typer.Option("--attention-maps", help="Distil the attention maps as well.")] = False,
    compensate: Annotated[
        bool, typer.Option(help="Start training from weights that make up for what was picked, if they are better.")
    ] = True,
    search_epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Epochs of the search.")] = 5,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Epochs of training after the search.")] = 10,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Images per step, over all processes.")] = 128,
    rate: Annotated[float, typer.Option(metavar="1e-3", min=0, help="Learning rate of the weights.")] = 1e-3,
    images: Annotated[int | None, typer.Option(metavar="N", min=1, help="Train on at most N images.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the split, the order and the augmentation.")] = 0,
    device: Annotated[
        str | None, typer.Option(metavar="D", help="Device to train on: cpu, cuda, cuda:1 (default: a GPU if there is one).")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoint file (default: BUNDLE.checkpoint).")
    ] = None,
    input_shape: options.InputShape = None,
    size_limit: options.SizeLimit = 1.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder to write (default: MODEL.mpcc).")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Choose replacements for a model's attention and activations with training, under a budget, and write a bundle."""
    place = output or Path(f"{early.model(model)}.mpcc")
    options.budget(budget)
    options.network(network)
    early.folder(place)
    early.written(checkpoint)

    from mpcc.ir.nn import inputs_of
    from mpcc.training import Hyperparameters, Request, Tuning, group, load_data

    from .model import graph, source

    request = Request.of(
        method, mu=mu, budget=budget, protocol=protocol, network=network, granularity=granularity, distil=distil,
        attention_maps=attention_maps, search_epochs=search_epochs, machine=machine, compensate=compensate,
    )  # fmt: skip
    found = source(model, size_limit)
    captured = graph(found, input_shape)
    loaded = load_data(data, tuple(inputs_of(captured)[0].meta["val"].shape), seed, images)
    hyper = Hyperparameters(epochs=epochs, batch=batch, rate=rate, seed=seed)
    kept = checkpoint or place.with_name(f"{place.name}.checkpoint")
    with group(device) as members, progress() as tell:
        shown: dict[str, Any] = {"report": _report, "progress": tell} if members.first else {}
        made = Tuning(captured, loaded, request, hyper, kept, group=members, **shown).run()
        if members.first:
            made.save(place)
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


def document(made: Tuned, place: Path) -> dict[str, Any]:
    """What `mpcc optimize --json` prints, and accuracy, history and picks."""
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
    """What `mpcc optimize` prints, and the accuracy."""
    from . import answer

    answer.show(made.optimized, place)
    console().print(
        f"Top-1 on {made.test_images} test images: {100 * made.accuracy:.2f} % +- {100 * made.standard_error:.2f} "
        f"(the original model: {100 * made.original_accuracy:.2f} %)",
        highlight=False,
    )
