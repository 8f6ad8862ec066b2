"""Names in a graph: what text of a file may become one, which one is free, and how a parameter is put under one.

Parameters, buffers, inputs and layers are named by model files, and fx writes some of these names into Python source
that it then runs. So every name goes through `safe_path` or `identifier` where it enters, and what they give is of a
grammar in which nothing can be said but a name.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable

import torch
from torch import fx

from mpcc.errors import InvalidGraph

# A part of a dotted path. Longer ones say nothing to a reader and would only fill messages.
_PART = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")
LONGEST_PART, MOST_PARTS = 128, 32


def safe_path(text: str) -> str:
    """`text` as a dotted path: letters, digits, `_` and `-`, no Python keyword; the same path if it is one already.

    blocks.0.attn -> blocks.0.attn       class.weight -> class_.weight       x");import os -> x_import_os
    """
    parts = text.split(".") if len(text) <= LONGEST_PART * MOST_PARTS else [text[:LONGEST_PART]]
    return ".".join(_safe_part(part) for part in parts[:MOST_PARTS] if part)


def _safe_part(part: str) -> str:
    cleaned = part if _PART.match(part) else _FOREIGN.sub("_", part)[:LONGEST_PART]
    return f"{cleaned}_" if keyword.iskeyword(cleaned) or cleaned == "self" else cleaned


def identifier(text: str, otherwise: str) -> str:
    """`text` as the name of an argument: a Python identifier in ASCII that is not a keyword and not `self`."""
    cleaned = re.sub(r"[^A-Za-z0-9_]+", "_", text)[:LONGEST_PART]
    if not cleaned[:1].isalpha() and not cleaned.startswith("_"):
        cleaned = f"{otherwise}_{cleaned}" if cleaned else otherwise
    return f"{cleaned}_" if keyword.iskeyword(cleaned) or keyword.issoftkeyword(cleaned) or cleaned == "self" else cleaned


def check_names(graph: fx.Graph) -> None:
    """InvalidGraph if generated source would hold text that is not a name. To be called before fx generates any."""
    for node in graph.nodes:
        target = str(node.target)
        if node.op == "placeholder" and identifier(target, "input") != target:
            raise InvalidGraph(f"{target[:100]!r} is not the name of an input")
        if node.op in ("get_attr", "call_module") and safe_path(target) != target:
            raise InvalidGraph(f"{target[:100]!r} is not the name of a parameter")


def free_name(name: str, is_taken: Callable[[str], bool], sign: str = "_") -> str:
    """`name`, or the first of `name_2`, `name_3` ... that is not taken; `sign` stands before the number."""
    free, count = name, 1
    while is_taken(free):
        count += 1
        free = f"{name}{sign}{count}"
    return free


def register(root: torch.nn.Module, name: str, tensor: torch.Tensor, *, trainable: bool) -> str:
    """Put `tensor` on `root` as a parameter or buffer under the free name closest to the dotted `name`; the name it got.

    Nothing that is there is ever replaced. Names that modules and graphs have of their own (`training`, `code`) are
    taken as well.
    """
    *path, last = (safe_path(name) or "constant").split(".")
    place, taken = root, list[str]()
    for wanted in path:
        part = _free_part(place, wanted, root, as_module=True)
        if part not in place._modules:
            place.add_module(part, torch.nn.Module())
        place = place.get_submodule(part)
        taken.append(part)
    last = _free_part(place, last, root, as_module=False)
    if trainable and tensor.is_floating_point():
        place.register_parameter(last, torch.nn.Parameter(tensor))
    else:
        place.register_buffer(last, tensor)
    return ".".join([*taken, last])


def replace_tensor(root: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Another value for the parameter or buffer with exactly this `name`, which stays what it is."""
    path, _, last = name.rpartition(".")
    place = root.get_submodule(path)
    if last in place._parameters:
        place.register_parameter(last, torch.nn.Parameter(tensor))
    else:
        place.register_buffer(last, tensor)


def _free_part(place: torch.nn.Module, part: str, root: torch.nn.Module, *, as_module: bool) -> str:
    """The root becomes a GraphModule, which has a graph and code of its own."""
    if (hasattr(torch.nn.Module, part) or part in _OWN) or (place is root and hasattr(fx.GraphModule, part)):
        part += "_"
    return free_name(part, lambda name: hasattr(place, name) and not (as_module and name in place._modules))


# What every module has besides the attributes of its class.
_OWN = frozenset(vars(torch.nn.Module())) | {"graph"}
