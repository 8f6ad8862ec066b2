"""What a change of the model's outputs costs: one number, 0 for equal outputs, that adds up over small independent changes.

    classifier          mean Kullback-Leibler divergence of the classes' probabilities, in nats
    any other output    squared error over the squared size of the output
    by name             `kl` and `relative` are the two above; `mse`, `cosine` (1 - similarity of each image's outputs) and
                        `iou` (1 - mean overlap of the classes' areas, for outputs [images, classes, ...])
    the user's own      `module:function`, called as function(outputs, reference), both [images, ...]; larger is worse

`drop` is what `--max-drop` bounds: for a classifier the part of the images whose top class changes, for other outputs the
relative error, for the user's own metric its value.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.errors import UsageError

from .replay import Outputs

Measure = Callable[[Outputs, Outputs], float]
LOST = "accuracy lost on labelled inputs"
HINT = "Or give `package.module:function`, called with the outputs and those of the model as it was; it returns a number."


@dataclass(frozen=True)
class Metric:
    """`loss` adds up and is minimised, `drop` is bounded; `source` tells apart what may be cached."""

    name: str
    loss: Measure
    drop: Measure
    drop_name: str
    source: str
    labels: Tensor | None = None
    """[calls, batch]: the classes of the calibration inputs, where they are known. A drop is then one of accuracy."""

    def on(self, calls: slice) -> Metric:
        """The same for some of the calibration inputs."""
        if self.labels is None:
            return self
        own = self.labels[calls]

        def lost(outputs: Outputs, reference: Outputs) -> float:
            return correct(reference, own) - correct(outputs, own)

        return replace(self, drop=lost, drop_name=LOST)


def correct(outputs: Outputs, labels: Tensor) -> float:
    """The share of images whose top class is their label, [calls, batch]; none of those whose outputs are NaN."""
    found = outputs[0].flatten(0, 1)
    right = (found.argmax(-1) == labels.flatten()) & torch.isfinite(found).all(-1)
    return float(right.double().mean())


def with_labels(metric: Metric, labels: Tensor) -> Metric:
    """A metric of classes whose drop is one of accuracy. UsageError for another one."""
    if metric is not CLASSES:
        raise UsageError("labels need a classifier, and no metric of your own", where="labels", hint="Leave --metric out.")
    return replace(metric, labels=labels, drop_name=LOST)


def metric_of(graph_module: fx.GraphModule) -> Metric:
    """The metric that fits a graph's outputs: one tensor [batch, classes] belongs to a classifier."""
    result = next(node for node in graph_module.graph.nodes if node.op == "output").args[0]
    found = list(result) if isinstance(result, (tuple, list)) else [result]
    shapes = [tuple(node.meta["val"].shape) for node in found]
    return CLASSES if len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][1] > 1 else FEATURES


def load_metric(name: str) -> Metric:
    """A metric by name, or the user's own."""
    if name in NAMED:
        return NAMED[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise UsageError(f"there is no metric {name!r}", where=f"--metric {name}", hint=f"One of {', '.join(NAMED)}. {HINT}")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"cannot be imported: {error}", where=f"--metric {name}", hint=HINT) from None
    if not callable(function):
        raise UsageError("is not a function", where=f"--metric {name}", hint=HINT)

    def measure(outputs: Outputs, reference: Outputs) -> float:
        pair = [_images(values) for values in (outputs, reference)]
        try:
            value = float(function(*(found[0] if len(found) == 1 else found for found in pair)))
        except Exception as error:
            raise UsageError(f"raised {type(error).__name__}: {error}", where=f"--metric {name}", hint=HINT) from error
        if math.isnan(value):
            return math.inf
        return max(value, 0.0)

    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = name
    return Metric(name, measure, measure, name, name + source)


def _images(values: Outputs) -> tuple[Tensor, ...]:
    """[calls, batch, ...] -> [images, ...]"""
    return tuple(value.reshape(-1, *value.shape[2:]) for value in values)


def _divergence(outputs: Outputs, reference: Outputs) -> float:
    seen, expected = (torch.log_softmax(values[0].double(), -1) for values in (outputs, reference))
    return _finite(float((expected.exp() * (expected - seen)).sum(-1).mean()))


def _changed(outputs: Outputs, reference: Outputs) -> float:
    if not torch.isfinite(outputs[0]).all():
        return 1.0
    return float((outputs[0].argmax(-1) != reference[0].argmax(-1)).double().mean())


def _squared(outputs: Outputs, reference: Outputs) -> float:
    pairs = zip(outputs, reference, strict=True)
    wrong = sum(float((seen.double() - expected.double()).square().sum()) for seen, expected in pairs)
    whole = sum(float(expected.double().square().sum()) for expected in reference)
    return _finite(wrong / max(whole, 1e-30))


def _relative(outputs: Outputs, reference: Outputs) -> float:
    return math.sqrt(_squared(outputs, reference))


def _finite(value: float) -> float:
    return max(value, 0.0) if math.isfinite(value) else math.inf


CLASSES = Metric("KL divergence", _divergence, _changed, "images whose top class changes", "classes 1")
FEATURES = Metric("squared relative error", _squared, _relative, "relative error", "features 1")


def _mean_squared(outputs: Outputs, reference: Outputs) -> float:
    pairs = [((a.double() - b.double()).square().sum(), a.numel()) for a, b in zip(outputs, reference, strict=True)]
    return _finite(float(sum(wrong for wrong, _ in pairs)) / sum(count for _, count in pairs))


def _cosine(outputs: Outputs, reference: Outputs) -> float:
    pairs = zip(_images(outputs), _images(reference), strict=True)
    alike = [torch.cosine_similarity(a.double().flatten(1), b.double().flatten(1)) for a, b in pairs]
    return _finite(float(1 - torch.cat(alike).mean()))


def _overlap(outputs: Outputs, reference: Outputs) -> float:
    """1 - mean over the classes that either has of the area of both over that of either. One channel: positive values."""
    lost = []
    for seen, expected in zip(_images(outputs), _images(reference), strict=True):
        if seen.dim() < 3 or not torch.isfinite(seen).all():
            if seen.dim() < 3:
                raise UsageError("needs outputs [images, classes, ...]", where="--metric iou", hint="Use kl or cosine.")
            return 1.0
        one, other = (v.argmax(1) if v.shape[1] > 1 else (v[:, 0] > 0).long() for v in (seen, expected))
        for label in sorted({*one.flatten().tolist(), *other.flatten().tolist()}):
            both, either = (one == label) & (other == label), (one == label) | (other == label)
            lost.append(1 - float(both.sum()) / float(either.sum()))
    return sum(lost) / len(lost)


NAMED = {
    "kl": CLASSES,
    "relative": FEATURES,
    "mse": Metric("mean squared error", _mean_squared, _mean_squared, "mean squared error", "mse 1"),
    "cosine": Metric("1 - cosine similarity", _cosine, _cosine, "1 - cosine similarity", "cosine 1"),
    "iou": Metric("1 - IoU", _overlap, _overlap, "1 - IoU", "iou 1"),
}
