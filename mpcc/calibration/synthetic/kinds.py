"""What an input of a captured graph is, read off the graph: a picture, a video, token ids, a mask, features.

    for node in placeholders:  kind_of(node) -> Kind("picture", shape=(1, 3, 224, 224), low=-2.1, high=2.6, source=...)

The range of a picture is taken from a normalisation at the front of the graph where there is one (then the picture itself
lies in [0, 1] or [0, 255]), from the model's own configuration, or else it is what a normalised picture can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir.nn import WHOLE_VIEWS, attribute, constant_values
from mpcc.ir.step import STEP

NORMALISED = (-2.2, 2.7)
"""Smallest and largest value of a pixel under the usual normalisations: ImageNet's gives [-2.12, 2.64], one of mean and
deviation 0.5 gives [-1, 1], one by a data set's own moments what lies between (MNIST: [-0.42, 2.82], cut at the top)."""
CHANNELS = (1, 2, 3, 4)
LEAST_SIDE = 4
MASKS = ("mask", "keep", "valid", "padding")
NEAR = 2.0**-10
"""Of the two ends of an equality: the front end has them 2^-11 apart."""
TWICE = 2.0
"""Times what is added to embeddings: their own root mean square is 2.1 times that of positions and types in a MiniLM."""
FEWEST_ROWS = 2
"""Of what whole numbers look up, where no table is found: 0 and 1."""
CONFIGURED = "configured_range"
"""The entry of a captured graph's `meta` that keeps what its model's configuration said."""
aten = torch.ops.aten


@dataclass(frozen=True)
class Kind:
    """One input: what it is, its static shape, the range of its values, and where that range comes from."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    low: float
    high: float
    source: str
    channels_last: bool = False

    @property
    def picture(self) -> bool:
        return self.kind in ("picture", "video")

    @property
    def scalable(self) -> bool:
        """Whether its values can be made larger: those of a mask and ids of rows cannot."""
        return self.dtype.is_floating_point and self.kind not in ("mask", "tokens")


def kinds(
    graph: fx.GraphModule, given: tuple[float, float] | None = None, configured: tuple[float, float] | None = None
) -> list[Kind]:
    """The kind of every input. `given` is the range the user states, `configured` that of the model's configuration."""
    return [_kind(graph, node, given, configured) for node in graph.graph.nodes if node.op == "placeholder"]


def configured_range(model: Any) -> tuple[float, float] | None:
    """The range of a normalised pixel by the model's own configuration, as timm keeps one; None where there is none.

    A captured graph has what was read off the model that it was captured from.
    """
    if isinstance(model, fx.GraphModule) and CONFIGURED in model.meta:
        kept: tuple[float, float] | None = model.meta[CONFIGURED]
        return kept
    for holder in ("pretrained_cfg", "default_cfg"):
        settings = getattr(model, holder, None)
        mean, deviation = _setting(settings, "mean"), _setting(settings, "std")
        if mean and deviation and len(mean) == len(deviation) and all(d > 0 for d in deviation):
            return (
                min((0 - m) / d for m, d in zip(mean, deviation, strict=True)),
                max((1 - m) / d for m, d in zip(mean, deviation, strict=True)),
            )
    return None


def _setting(settings: Any, name: str) -> tuple[float, ...]:
    found = settings.get(name) if isinstance(settings, dict) else getattr(settings, name, None)
    ok = isinstance(found, (tuple, list)) and all(isinstance(value, (int, float)) for value in found)
    return tuple(float(value) for value in found) if ok and found is not None else ()


def _kind(
    graph: fx.GraphModule, node: fx.Node, given: tuple[float, float] | None, configured: tuple[float, float] | None
) -> Kind:
    value: Tensor = node.meta["val"]
    shape, dtype = tuple(value.shape), value.dtype
    if dtype == torch.bool or node.meta.get("bit") or (any(word in node.name.lower() for word in MASKS) and len(shape) <= 3):
        return Kind(node.name, "mask", shape, dtype, 0.0, 1.0, "a mask")
    placed = _picture(shape, dtype)
    if placed is not None:
        kind, last = placed
        low, high, source = _picture_range(graph, node, dtype, given, configured)
        return Kind(node.name, kind, shape, dtype, low, high, source, last)
    asked = _asked_for(node)
    if asked and asked <= {0, 1}:
        return Kind(node.name, "mask", shape, dtype, 0.0, 1.0, "compared with 0 or 1")
    rows = _table_rows(graph, node) if not dtype.is_floating_point or node.meta.get("whole") else None
    if rows is not None or not dtype.is_floating_point:
        rows = rows or FEWEST_ROWS
        return Kind(node.name, "tokens", shape, dtype, 0.0, float(rows - 1), f"ids below {rows}")
    if given is not None:
        return Kind(node.name, "features", shape, dtype, *given, "as given")
    added = _added(graph, node)
    size, source = (TWICE * added, ", by what the model adds to it") if added else (1.0, "")
    return Kind(node.name, "features", shape, dtype, -4 * size, 4 * size, f"four standard deviations{source}")


def _added(graph: fx.GraphModule, node: fx.Node) -> float:
    """The root mean square of the largest constant that is added to an input before anything else is done with it, as positions
    are to embeddings; 0 where there is none."""
    found, readers, constants = 0.0, [node], constant_values(graph)
    for value in readers:
        for user in value.users:
            if user.target in WHOLE_VIEWS:
                readers.append(user)
            elif user.target is aten.add.Tensor:
                added = [constants[one] for one in user.all_input_nodes if one in constants]
                if added:
                    readers.append(user)
                    found = max(found, float(added[0].double().square().mean().sqrt()))
    return found


def _asked_for(node: fx.Node) -> set[int]:
    """The whole numbers that an input is compared with for equality (`mask == 0`).

    The front end writes x == c as [x - c + e >= 0] [c - x + e >= 0], so both steps change within 2 e of c.
    """
    rising, falling = set[float](), set[float]()
    readers = [(node, 1.0, 0.0)]  # value, and the a and b for which it is a x + b
    for value, a, b in readers:
        for user in value.users:
            number = next((one for one in user.args if isinstance(one, (int, float)) and not isinstance(one, bool)), None)
            if user.target in WHOLE_VIEWS or user.target in (aten.slice.Tensor, aten.select.int):
                readers.append((user, a, b))
            elif user.target is aten.neg.default:
                readers.append((user, -a, -b))
            elif user.target is aten.add.Tensor and number is not None:
                readers.append((user, a, b + number))
            elif user.target is STEP:
                (rising if a > 0 else falling).add(-b / a)
    return {round(low) for low in rising for high in falling if 0 < high - low < NEAR and abs(low - round(low)) < NEAR}


def _picture(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[str, bool] | None:
    """(kind, whether channels come last) of a shape that holds pictures."""
    if len(shape) == 4 or (len(shape) == 3 and shape[0] in CHANNELS and min(shape[1:]) >= LEAST_SIDE and dtype == torch.uint8):
        if shape[-3] in CHANNELS and min(shape[-2:]) >= LEAST_SIDE:
            return "picture", False
        if shape[-1] in CHANNELS and min(shape[-3:-1]) >= LEAST_SIDE:
            return "picture", True
    if len(shape) == 5 and min(shape[-2:]) >= LEAST_SIDE and (shape[1] in CHANNELS or shape[2] in CHANNELS):
        return "video", False
    return None


def _picture_range(
    graph: fx.GraphModule,
    node: fx.Node,
    dtype: torch.dtype,
    given: tuple[float, float] | None,
    configured: tuple[float, float] | None,
) -> tuple[float, float, str]:
    if given is not None:
        return (*given, "as given")
    if not dtype.is_floating_point:
        return 0.0, 255.0, "an integer picture"
    inside = _normalisation(graph, node)
    if inside is not None:
        return 0.0, inside, "a normalisation inside the model"
    if configured is not None:
        return (*configured, "the model's own configuration")
    return (*NORMALISED, "what a normalised picture can be")


def _normalisation(graph: fx.GraphModule, node: fx.Node) -> float | None:
    """The largest value of a pixel (1 or 255) where the graph begins by normalising: a constant is subtracted or added
    and the result multiplied, by one number or one per channel, before anything else reads the input."""
    shift, factor, reader = 0.0, 1.0, node
    steps = 0
    while len(reader.users) == 1 and steps < 6:
        reader = next(iter(reader.users))
        constant = _constant(graph, reader)
        if reader.target in (aten.add.Tensor, aten.sub.Tensor) and constant is not None:
            sign = 1.0 if reader.target is aten.add.Tensor else -1.0
            shift += sign * constant / factor
        elif reader.target in (aten.mul.Tensor, aten.div.Tensor) and constant:
            factor = factor * constant if reader.target is aten.mul.Tensor else factor / constant
        elif reader.target not in (aten.reshape.default, aten.permute.default, aten.slice.Tensor):
            break
        steps += 1
    if shift == 0.0 and factor == 1.0:
        return None
    mean = -shift
    if abs(factor) < 0.1 and (mean == 0.0 or 10 <= mean <= 250):
        return 255.0
    return 1.0 if 0.0 <= mean <= 1.0 and 1.0 <= abs(factor) <= 20 else None


def _constant(graph: fx.GraphModule, node: fx.Node) -> float | None:
    """The mean of the constant operand of a call of two operands; None where there is none."""
    other = node.args[1] if len(node.args) > 1 else None
    if isinstance(other, (int, float)):
        return float(other)
    if isinstance(other, fx.Node) and other.op == "get_attr":
        value: Tensor = attribute(graph, str(other.target))
        return float(value.double().mean()) if value.numel() <= 16 else None
    return None


def _table_rows(graph: fx.GraphModule, node: fx.Node) -> int | None:
    """How many rows the table has that this input looks up; None where it looks up none.

    A secret number looks up a row by being compared with the number of each (`mpcc.frontend.canonical.rules.gathers.one_hot`,
    or a one-hot of the exporter's): then the constant that it is compared with counts from 0.
    """
    readers = [node]
    for reader in readers:
        for user in reader.users:
            if user.target in WHOLE_VIEWS or user.target in (aten.slice.Tensor, aten.select.int):
                readers.append(user)
            for operand in user.all_input_nodes:
                if operand.op != "get_attr":
                    continue
                table: Tensor = attribute(graph, str(operand.target))
                if user.target in (aten.embedding.default, aten.index.Tensor):
                    return int(table.shape[0])
                if user.target == aten.sub.Tensor and _counts(table):
                    clamped = any(after.target == aten.clamp.default for after in user.users)
                    return table.numel() + clamped  # clamp(i - r + 1, 0, 1) needs no number for the last row
    return None


def _counts(table: Tensor) -> bool:
    """Whether it holds 0, 1, 2 ..."""
    return table.numel() > 1 and torch.equal(table.flatten().double(), torch.arange(table.numel(), dtype=torch.float64))
