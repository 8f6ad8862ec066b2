"""How a picture becomes the input, for clients of `mpcc serve`: from a file, or from the configuration that a model carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpcc.client.configurations import preprocess_of
from mpcc.client.preprocess import CHANNELS, Preprocess
from mpcc.errors import ShapeError, UsageError

from .screen import say

if TYPE_CHECKING:
    from torch import fx

NOTE = "preprocess"
"""The note of a plan that keeps it."""


def of_file(path: Path) -> dict[str, Any]:
    """The note of a file, in our own words. UsageError."""
    try:
        return {NOTE: preprocess_of(json.loads(path.read_bytes())).document()}
    except (OSError, ValueError, RecursionError) as error:
        hint = "docs/serving.md says what such a file holds."
        raise UsageError(f"no preprocessing that can be read: {error}", where=str(path), hint=hint) from None


def of_model(model: Any, captured: fx.GraphModule) -> dict[str, Any]:
    """The note of a module that timm has configured (`pretrained_cfg`), if that gives the input that was captured."""
    settings = getattr(model, "pretrained_cfg", None)
    if not isinstance(settings, dict) or "mean" not in settings:
        return {}
    try:
        found = preprocess_of({"pretrained_cfg": settings}).document()
        check(found, captured)
    except (ValueError, ShapeError) as error:
        said = error.what if isinstance(error, ShapeError) else str(error)
        say(f"the model's own preprocessing (pretrained_cfg) was left out: {said}. Give one with --preprocess to serve pictures.")
        return {}
    return {NOTE: found}


def of_library(settings: Any, calibration: Any, example: Any) -> tuple[dict[str, Any], Any]:
    """The note of what a library says about pictures, and a folder of them made into inputs in that way."""
    from mpcc.calibration.inputs import Preprocessing, load_calibration

    try:
        how = preprocess_of(settings)
    except ValueError as error:
        say(f"The library's preprocessing is not taken along: {error}")
        return {}, calibration
    if calibration is not None and Path(str(calibration)).is_dir():
        shape = tuple(next(iter(example.values())).shape if isinstance(example, dict) else example.shape)
        given = settings.get("crop_pct") or 0.875
        own = Preprocessing(float(given), tuple(how.mean), tuple(how.std))
        calibration = load_calibration(calibration, [shape], own)
    return {NOTE: how.document()}, calibration


def check(document: dict[str, Any], captured: fx.GraphModule) -> None:
    """ShapeError where the preprocessing does not give the model's input."""
    from mpcc.ir.nn import shape_of

    known, shapes = Preprocess.read(document), [shape_of(n) for n in captured.graph.nodes if n.op == "placeholder"]
    found = [CHANNELS[known.channels], *known.size]
    if len(shapes) != 1 or list(shapes[0][-3:]) != found or any(side != 1 for side in shapes[0][:-3]):
        made = f"become {found}" if known.size else "keep their own sizes"
        what = f"pictures {made}, the model takes {', '.join(str(list(shape)) for shape in shapes)}"
        hint = "`resize` as [height, width], or `crop`, must give the model's height and width; `channels` is L or RGB."
        raise ShapeError(what, where="--preprocess", hint=hint)
