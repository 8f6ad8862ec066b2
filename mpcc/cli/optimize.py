"""mpcc optimize: turn a trained model into a bundle that two parties can run, and print what was changed."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from . import early, options, several
from .screen import console, emit, progress, say

if TYPE_CHECKING:

    from mpcc.approximate import Level, Plan
    from mpcc.pipeline import Optimized
    from mpcc.search.task import Chosen

EPILOG = (
    "Examples: mpcc optimize model.onnx --calibration images.npy --budget 2s --network wan\n\n"
    "mpcc optimize model.py:make_model --level structural -o private.mpcc\n\n"
    "mpcc optimize model.onnx --calibration images.npy --level structural --max-drop 0.5%\n\n"
    "mpcc optimize model.onnx --calibration images.npy --level structural --budget 3s --budget 2s -o private.mpcc\n\n"
    "mpcc optimize model.onnx --calibration images.npy --level structural --pareto -o front\n\n"
    "mpcc optimize clip.onnx --calibration image=photos,text=texts.npy --fix attention_mask=1\n\n"
    "mpcc optimize model.onnx --plan edited-plan.json -o private.mpcc\n\n"
    "mpcc optimize model.onnx --recipe mpcvit:0.5 --calibration images.npy -o private.mpcc"
)


UNCALIBRATED = (
    "Warning: --level structural changes the function, and without images nobody can say what that does to the accuracy. "
    "Give some with --calibration."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("optimize", epilog=EPILOG)(optimize)


def optimize(
    model: options.Model,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="2s", help="Upper bound on the online phase: 2s, 30MB or 150rounds. Repeated: a bundle for each."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            metavar="0.5%",
            help="Largest accepted accuracy drop on the calibration inputs. Without --budget, the fastest plan within it wins.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="kl, mse, cosine, iou, or your own: module:function(outputs, reference) -> float."),
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Write plans from the fastest to the most accurate, instead of a bundle.")
    ] = False,
    protocol: options.Protocol = "mpcc",
    network: options.Network = "lan",
    machine: options.Machine = None,
    calibration: options.Calibration = None,
    input_range: options.InputRange = None,
    public: options.Public = None,
    hide_logits: Annotated[
        bool,
        typer.Option(
            "--hide-logits",
            help="Compute a last softmax, sigmoid, argmax or top-k privately too; else the client does, of its opened logits.",
        ),
    ] = False,
    level: Annotated[
        str, typer.Option(
            metavar="LEVEL",
            help="What may change: exact (nothing), bounded (within an error bound), structural (the function itself).",
        )
    ] = "bounded",
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Compile this plan.json without searching.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="A plan by name, such as mpcformer or mpcvit:0.5: see `mpcc recipes`.",
        ),
    ] = None,
    input_shape: options.InputShape = None,
    fix: options.Fix = None,
    size_limit: options.SizeLimit = 1.0,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Sites whose function stays, such as 'blocks.0.*'. Can be repeated.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="OP,OP...", help="The operators whose function may change, such as softmax,gelu.")
    ] = None,
    effort: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long plans may be tried for. Ctrl-C ends it with the best so far.")
    ] = 30.0,
    tolerance: Annotated[
        float, typer.Option(metavar="FRACTION", help="Largest fixed-point error relative to the spread of the outputs, or inf.")
    ] = 0.05,
    answers: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Answers to one client in which noise is to hide roundings of hidden values."),
    ] = 1 << 14,
    noise: Annotated[
        float, typer.Option(metavar="FRACTION", help="The most that this noise may be, relative to the spread of the outputs.")
    ] = 1 / 32,
    compensate: Annotated[
        bool | None,
        typer.Option(
            "--compensate/--no-compensate",
            help="Solve layers behind structural choices anew, without training. [default: yes, for plans made here]",
            show_default=False,
        ),
    ] = None,
    reconstruct: Annotated[
        int | None,
        typer.Option(
            metavar="STEPS", min=0, help="Steps of gradient in each block after compensation, without labels; 300 take minutes."
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", metavar="PLAN", help="A plan.json to begin from: what is found is at least as good."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|folders",
            help="Classes of the calibration inputs: .npy, .npz, or `folders` (one a class). --max-drop is then accuracy.",
        ),
    ] = None,
    preprocess: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="How a picture becomes the input, for clients of `mpcc serve`: JSON as in docs/serving.md, timm's config.json "
            "or transformers' preprocessor_config.json.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE.safetensors", help="The weights of a model of a library (timm:NAME, hf:NAME ...)."),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="The library's own weights of it, from its cache or the network.")
    ] = False,
    workers: options.Workers = None,
    backend: options.Backend = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder to write. [default: MODEL.mpcc]")
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the graph after every pass as text, one file per step.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also print each site's candidates, the valid ranges, and which rewrites fired.")
    ] = False,
    sites: Annotated[
        bool, typer.Option("--sites", "-v", help="Print a row for every site, instead of one for every kind of operator.")
    ] = False,
    explain: Annotated[
        str | None, typer.Option(metavar="SITE", help="Also print what could stand at this site, and why something else does.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Rewrite a trained model for private inference within a budget, and write a bundle."""
    from mpcc.bundle.folder import FRONT
    from mpcc.errors import UsageError

    if not tolerance > 0:
        raise UsageError(f"invalid tolerance {tolerance:g}", where="--tolerance", hint="Give a positive number or inf.")
    if not 0 < noise <= 1:
        hint = "Give a number above 0 and up to 1: 0.03 is 3 % of the spread, and in more than all of it the outputs drown."
        raise UsageError(f"invalid noise {noise:g}", where="--noise", hint=hint)
    if pareto and (budget or max_drop or plan or dump):
        raise UsageError("--pareto cannot be combined with --budget, --max-drop, --plan or --dump")
    if pareto and preprocess is not None:
        raise UsageError("--preprocess belongs to a bundle, and --pareto writes plans")
    if pareto and public:
        raise UsageError("--pareto cannot be combined with --public")
    if pareto and (compensate is not None or reconstruct is not None):
        hint = "Compensate a plan of the front: mpcc optimize MODEL --plan PLAN.json --compensate"
        raise UsageError("--pareto cannot be combined with --compensate or --reconstruct", hint=hint)
    if len(budget or ()) > 1:
        several.check(max_drop=max_drop, plan=plan, recipe=recipe, dump=dump, explain=explain)
    if (start or labels) and (pareto or plan or recipe or not (budget or max_drop)):
        raise UsageError("--from and --labels belong to a search: give --budget or --max-drop, and no plan")
    if recipe is not None and (pareto or plan):
        raise UsageError("--recipe cannot be combined with --plan or --pareto")
    for one in budget or ():
        options.budget(one)
    options.network(network)
    drop, values = None if max_drop is None else _fraction(max_drop, metric), options.input_range(input_range)
    stem = early.model(model)
    early.inputs(calibration)
    early.plan(plan, "--plan")
    early.plan(start, "--from")
    early.inputs(None if labels == "folders" else labels, "--labels")
    notes = _preprocess(preprocess)
    place = output or Path(f"{stem}.pareto" if pareto else f"{stem}.mpcc")
    places = several.places(place, budget) if len(budget or ()) > 1 else [place]
    for folder in places:
        early.folder(folder, FRONT if pareto else None)

    from mpcc.lowering import Settings
    from mpcc.pipeline import check_machine
    from mpcc.pipeline.compensation import check_asked
    from mpcc.search.recipes import parse
    from mpcc.search.target import Objective, Target
    from mpcc.workers import on as sweeps

    from . import preprocess as pictures
    from .model import graph, source
    from .rewrites import Rewrites

    bound = budget[0] if budget and len(budget) == 1 else None
    objective = Objective(cast("Level", level), metric, bound, drop, effort, tuple(keep or ()), _listed(only))
    if recipe is not None:
        parse(recipe)
    target = Target(protocol, network, machine, Settings(tolerance=tolerance, answers=answers, flood=noise))
    check_machine(target)
    check_asked(compensate, reconstruct)
    chosen, begun = _plan(plan), _plan(start)
    if calibration is None and level == "structural":
        say(UNCALIBRATED)
    found, images = source(model, size_limit, pretrained=pretrained, weights=weights), cast("Any", calibration)
    if found.preprocess is not None and not notes:
        notes, images = pictures.of_library(found.preprocess, calibration, found.example_inputs)
    rewrites = Rewrites()
    with progress() as tell, sweeps(workers, backend):
        from mpcc.pipeline import optimize as run
        from mpcc.rewrite import observers
        from mpcc.show.dump import Dump

        observe = observers(None if dump is None else Dump(dump), rewrites if verbose else None)
        tell("capture", 0, 1)
        captured = graph(found, input_shape, fix)
        tell("capture", 1, 1)
        if notes:
            pictures.check(notes[pictures.NOTE], captured)
        elif found.preprocess is None:
            notes = pictures.of_model(found.model, captured)
        given: dict[str, Any] = dict(
            target=target, objective=objective, calibration=images, input_range=values, progress=tell
        )
        if pareto:
            from mpcc.pipeline import pareto as front

            from .pareto import draw

            draw(front(captured, **given), place, as_json)
            return
        given |= dict(
            public=public or (), hide_logits=hide_logits, compensate=compensate, reconstruct=reconstruct, start=begun,
            labels=labels,
        )  # fmt: skip
        if len(places) > 1:
            found_within = several.made(captured, budget or [], places, given, notes)
        else:
            made = run(captured, plan=chosen, recipe=recipe, observe=observe, **given)
            tell("write", 0, 1)
            made = _noted(made, notes)
            made.save(place)
            tell("write", 1, 1)
    if len(places) > 1:
        several.show(found_within, as_json)
        return
    if as_json:
        emit(document(made, place) | ({"rewrites": rewrites.document()} if verbose else {}))
    else:
        from . import answer

        answer.show(made, place, calibration, [] if bound is None else [_met(bound, made)], sites=sites)
        if verbose:
            from .search import candidates, ranges

            candidates(made)
            if made.ranges:
                console().print(ranges(made.ranges))
            console().print(rewrites.table())
    if explain is not None:
        from .explain import explain as print_site

        print_site(made, explain)


def _noted(made: Optimized, notes: dict[str, Any]) -> Optimized:
    """With further notes in its plan."""
    return replace(made, plan=replace(made.plan, notes={**made.plan.notes, **notes})) if notes else made


def _listed(text: str | None) -> tuple[str, ...]:
    """`softmax,gelu` -> both names."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _met(text: str, made: Optimized) -> str:
    """The budget, and how much of it is left."""
    from mpcc.cost import Budget

    budget = Budget.parse(text)
    spent = budget.spent(made.estimate)
    return f"Budget of {budget}: met with {spent:.4g}, which is {1 - spent / budget.amount:.0%} less."


def _fraction(text: str, own: str | None) -> float:
    """"0.5%" or "0.005" -> 0.005. It bounds a share of the inputs, unless it is the value of a metric of the user's `own`."""
    from mpcc.errors import UsageError

    try:
        value = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"invalid accuracy drop {text!r}", where="--max-drop", hint="Give 0.5% or 0.005, for example.")
    if value > 1 and own is None:
        hint = f"Give {text.strip()}% for so many of a hundred inputs." if "%" not in text else "100% would allow any change."
        raise UsageError(f"an accuracy drop of {text.strip()} is more than all inputs", where="--max-drop", hint=hint)
    return value


def _preprocess(path: Path | None) -> dict[str, Any]:
    """The note of --preprocess."""
    if path is None:
        return {}
    from .preprocess import of_file

    return of_file(path)


def _plan(path: Path | None) -> Plan | None:
    from mpcc.approximate import Plan

    if path is None:
        return None
    return Plan.from_json(path.read_text(encoding="utf-8", errors="replace"), where=str(path))


def document(made: Optimized, place: Path) -> dict[str, Any]:
    """The result as JSON."""
    import json

    from mpcc import security

    return {
        "bundle": str(place),
        "plan": json.loads(made.plan.to_json()),
        "estimate": json.loads(made.estimate.to_json()),
        "baseline": json.loads(made.baseline.to_json()),
        "errors": dict(made.errors),
        "public": list(made.public),
        "calibrated": made.calibrated,
        "calibration": made.basis.document(),
        "machine": dict(made.estimate.machine),
        "ranges": [asdict(one) for one in made.ranges],
        "search": None if made.chosen is None else _search(made.chosen),
        "compensation": None if made.compensation is None else made.compensation.document(),
        "hidden": {"answers": made.hidden, "asked": made.settings.answers, "warning": made.shortfall},
        "security": security.statement(public=made.public, answers=made.answers, under=made.trust, hidden=made.hidden),
    }


def _search(chosen: Chosen) -> dict[str, Any]:
    point = chosen.point
    return {
        "quality_loss": point.loss, "predicted_quality_loss": point.predicted_loss,
        "damage": point.loss, "predicted_damage": point.predicted_loss,  # former names, for one more release
        "metric": chosen.metric.name,
        "images": chosen.images, "drop": point.drop, "drop_of": chosen.metric.drop_name, "judged_on": chosen.judged,
        "compensated": chosen.compensated, "accuracy": chosen.accuracy,
        "programs_priced": chosen.tried, "plans_run": chosen.runs, "stopped": chosen.stopped,
        "barred": [asdict(bar) for bar in chosen.barred],
    }  # fmt: skip
