"""The graph after every step, as text files in a folder: so that a rewrite can be seen at work.

    optimize(model, x, observe=Dump("steps"))

    steps/00-index.txt                 every step in order, those that changed nothing included
    steps/01-nn-capture.txt            %linear: float32[1, 4, 8] = aten.linear.default(%x, %weight, %bias)  # blocks.0.q
    steps/02-nn-split_projection.txt   ...
    steps/09-online-lower.txt          the last one: what the parties run

The text is stable: equal graphs give equal files, whichever machine made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from mpcc.errors import UsageError
from mpcc.files import write
from mpcc.ir.info import KEY, Info
from mpcc.rewrite import Step

INDEX = "00-index.txt"
LONGEST = 12
"""Elements of a list that are written out (the coefficients of any polynomial, but not all positions of a gather)."""


class Dump:
    """Writes each graph that it is called with to `folder`, which must be empty or new."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UsageError("the folder for the graphs is not empty", where=str(folder), hint="Name a new one.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number = 0
        self._index: list[str] = []

    def __call__(self, step: Step) -> None:
        name = "unchanged"
        if step.changed:
            self._number += 1
            name = f"{self._number:02}-{step.level}-{step.name}.txt"
            write(self.folder / name, text(step.graph))
        self._index.append(f"{step.level:7}{step.name:24}{name}\n")
        write(self.folder / INDEX, "".join(self._index))


def text(graph: fx.Graph) -> str:
    """A line for each node: its name, type, operator and arguments, then its layer or site and what made it."""
    return "".join(f"{_line(node)}\n" for node in graph.nodes)


def _line(node: fx.Node) -> str:
    value = node.meta.get("val")
    kind = f": {str(value.dtype).removeprefix('torch.')}{list(value.shape)}" if isinstance(value, Tensor) else ""
    return f"%{node.name}{kind} = {_call(node)}{_note(node.meta)}"


def _call(node: fx.Node) -> str:
    if node.op in ("placeholder", "get_attr"):
        return f"{'input' if node.op == 'placeholder' else 'parameter'} {node.target}"
    if node.op == "output":
        return f"output {_value(node.args[0])}"
    arguments = [_value(a) for a in node.args] + [f"{key}={_value(a)}" for key, a in node.kwargs.items()]
    return f"{_operator(node.target)}({', '.join(arguments)})"


def _operator(target: Any) -> str:
    """`aten.linear.default` of an ATen overload, `mpc.mul` of a function."""
    module = getattr(target, "__module__", "").rpartition(".")[2]
    return str(target) if hasattr(target, "_schema") else f"{module}.{getattr(target, '__name__', target)}"


def _value(value: Any) -> str:
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        shown = [_value(v) for v in value[:LONGEST]] + ([f"... {len(value)} in all"] if len(value) > LONGEST else [])
        return f"[{', '.join(shown)}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return repr(value) if isinstance(value, str) else str(value)


def _note(meta: Mapping[str, Any]) -> str:
    info: Info | None = meta.get(KEY)
    found = {key: str(meta.get(key) or "") for key in ("layer", "site", "part")} if info is None else vars(info.origin)
    phase = "" if info is None or info.phase is None else f"{info.phase} {info.level}"
    part = f"part {found['part']}" if found["part"] else ""
    made_by = f"by {' then '.join(meta['made_by'])}" if meta.get("made_by") else ""
    notes = [note for note in (found["site"] or found["layer"], part, phase, made_by) if note]
    return f"  # {', '.join(notes)}" if notes else ""
