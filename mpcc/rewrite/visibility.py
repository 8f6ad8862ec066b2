"""Which parameters of a model its owner makes public, and the part of the model that the client then computes by itself.

    mark_public(graph_module, ["backbone.*", "blocks.0-9.*"])       marks get_attr nodes
    cut_prefix(graph_module)          Cut(prefix, rest, names): rest(*prefix(inputs)) = graph_module(inputs)

The prefix is what depends on inputs and public parameters alone. It is cut where the first secret parameter enters, runs at
the client in float before anything is shared, and is gone from what the parties run. Products with public parameters behind a
secret one stay with the parties, each of which multiplies its own share (`mpcc.lowering.constants`).
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mpcc.errors import UsageError
from mpcc.ir.names import free_name, identifier, register
from mpcc.ir.nn import MADE_OF, PUBLIC, VIEWS, attribute, verify

from .adapters import adapter_parameters

FROZEN = "frozen"
"""Instead of a pattern: the parameters that do not train (requires_grad is False), such as the base of a model with adapters.
Those of an adapter are never among them, though one that was loaded for inference does not train either."""
_RANGE = re.compile(r"(\d{1,4})-(\d{1,4})")
LISTED = 3


@dataclass(frozen=True)
class Cut:
    """`prefix` gives a tuple: the inputs of `rest`, in order; None where the client can compute nothing alone. `names`: the
    model's public parameters, in either."""

    prefix: fx.GraphModule | None
    rest: fx.GraphModule
    names: tuple[str, ...]


def matching(pattern: str, names: Iterable[str]) -> set[str]:
    """The names that a pattern selects: `*`, `?` and `[..]` as in a shell, `a-b` as a whole part of the path is a range.

    blocks.0-9.* selects blocks.3.attn.qkv.weight, and not blocks.10.norm1.bias.
    """
    parts = []
    for part in pattern.split("."):
        found = _RANGE.fullmatch(part)
        if found is None:
            parts.append(fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z"))
            continue
        low, high = map(int, found.groups())
        if low > high:
            raise UsageError(f"the range {part} is empty", where=f"public {pattern!r}", hint="Write it as low-high: 0-9.")
        parts.append(f"(?:{'|'.join(map(str, range(low, high + 1)))})")
    form = re.compile(f"(?s:{re.escape('.').join(parts)})")
    return {name for name in names if form.fullmatch(name)}


AN_INPUT = "{0} is an input: --fix {0}=VALUE makes it a constant of this compilation, and unfixed it is as secret as the others."


def mark_public(graph_module: fx.GraphModule, patterns: Sequence[str], frozen: Collection[str] = ()) -> None:
    """Mark the parameters that the patterns make public.

    A tensor that was computed from several parameters is public if all of them are, and secret where nobody knows what it was
    computed from. `frozen`: the names behind FROZEN. UsageError for a pattern that selects nothing.
    """
    read = [node for node in graph_module.graph.nodes if node.op == "get_attr"]
    names = {name for node in read for name in node.meta.get(MADE_OF) or ()}
    chosen = set[str]()
    for pattern in patterns:
        found = names & set(frozen) if pattern == FROZEN else matching(pattern, names)
        if not found:
            inputs = {str(node.target) for node in graph_module.graph.nodes if node.op == "placeholder"}
            hint = AN_INPUT.format(pattern) if pattern in inputs else _near(pattern, names)
            raise UsageError(f"no parameter is {_called(pattern)}", where=f"public {pattern!r}", hint=hint)
        chosen |= found
    for node in read:
        made_of = node.meta.get(MADE_OF)
        whole = not attribute(graph_module, str(node.target)).is_floating_point()  # places in gathers, which programs show
        node.meta[PUBLIC] = whole or (made_of is not None and made_of <= chosen)


def _called(pattern: str) -> str:
    return "frozen" if pattern == FROZEN else f"called {pattern}"


def _near(pattern: str, names: Collection[str]) -> str:
    found = difflib.get_close_matches(pattern, names, LISTED, 0.3) or sorted(names)[:LISTED]
    return f"There are, for example: {', '.join(found)}." if found else "The model has no parameters with names."


def frozen_parameters(model: Any) -> frozenset[str]:
    """The names of a module's parameters that do not train and are no adapter's; none of what is no module."""
    if not isinstance(model, torch.nn.Module):
        return frozenset()
    return frozenset(name for name, one in model.named_parameters() if not one.requires_grad) - adapter_parameters(model)


def is_public(node: fx.Node) -> bool:
    """Whether a `get_attr` node reads what everybody may know."""
    return bool(node.meta.get(PUBLIC))


def cut_prefix(graph_module: fx.GraphModule) -> Cut:
    """Cut off what the client can compute alone. UsageError where that is everything, or where nothing is gained."""
    graph = graph_module.graph
    inside, fed = set[fx.Node](), set[fx.Node]()
    for node in graph.nodes:
        operands = node.all_input_nodes
        if node.op == "placeholder" or (node.op == "get_attr" and is_public(node)):
            inside.add(node)
        elif node.op == "call_function" and all(operand in inside for operand in operands):
            inside.add(node)
        if node.op == "placeholder" or any(operand in fed for operand in operands):
            fed.add(node)
    output = next(node for node in graph.nodes if node.op == "output")
    if all(operand in inside for operand in output.all_input_nodes):
        what = "every output depends on public parameters alone: the client can run this model without anybody"
        raise UsageError(what, where="public", hint="Make fewer parameters public.")
    known = [node for node in graph.nodes if node.op == "get_attr" and is_public(node)]
    names = tuple(sorted({name for node in known for name in node.meta.get(MADE_OF) or ()}))
    if not any(node.op == "call_function" and node.target not in VIEWS for node in inside & fed):
        if not any(attribute(graph_module, str(node.target)).is_floating_point() for node in known):
            what = "no tensor of the model is made of the public parameters alone, so that nothing would be gained"
            raise UsageError(what, where="public", hint="Make public what goes together: a convolution and its batch norm.")
        return Cut(None, graph_module, names)
    border = [node for node in graph.nodes if node in inside and node in fed and any(user not in inside for user in node.users)]
    return Cut(_prefix(graph_module, border, inside), _rest(graph_module, border, inside - fed), names)


def _prefix(source: fx.GraphModule, border: Sequence[fx.Node], inside: Collection[fx.Node]) -> fx.GraphModule:
    graph, copied = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in source.graph.nodes:
        if node in inside:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    graph.output(tuple(copied[node] for node in border))
    graph.eliminate_dead_code()
    return _module(source, graph)


def _rest(source: fx.GraphModule, border: Sequence[fx.Node], constant: Collection[fx.Node]) -> fx.GraphModule:
    """`constant`: what depends on public parameters alone, which the rest may read as well."""
    graph, copied, taken = fx.Graph(), dict[fx.Node, fx.Node](), set[str]()
    for node in border:
        wanted = str(node.target) if node.op == "placeholder" else identifier(node.name, "input")
        name = free_name(wanted, taken.__contains__)
        taken.add(name)
        copied[node] = graph.placeholder(name)
        copied[node].meta.update(val=node.meta["val"], layer="", made_by=())
    for node in _behind(source.graph, border, constant):
        copied[node] = graph.node_copy(node, copied.__getitem__)
    graph.eliminate_dead_code()
    return _module(source, graph)


def _behind(graph: fx.Graph, border: Sequence[fx.Node], constant: Collection[fx.Node]) -> Iterator[fx.Node]:
    """What is computed from the border, parameters, and what depends on parameters alone."""
    reached = set(border)
    for node in graph.nodes:
        if node in reached or node.op == "placeholder":
            continue
        if node.op == "get_attr" or node in constant or all(operand in reached for operand in node.all_input_nodes):
            reached.add(node)
            yield node


def _module(source: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    """A module of its own, with copies of the parameters that the graph reads."""
    root, names = torch.nn.Module(), dict[str, str]()
    for node in graph.nodes:
        if node.op == "get_attr":
            target = str(node.target)
            if target not in names:
                value = attribute(source, target)
                trains = isinstance(value, torch.nn.Parameter)
                names[target] = register(root, target, value.detach().clone(), trainable=trains)
            node.target = names[target]
    made = fx.GraphModule(root, graph)
    made.meta.update(source.meta)
    made.eval()
    verify(made)
    return made
