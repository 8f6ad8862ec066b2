"""The static check of a program's masks, done before anything runs: every mask hides one value, once.

A value leaves a party only as `mask_with` / `mask_bits` of a uniform mask of its own size that hides nothing else, and
only outputs are revealed, each with noise of its own. What lives as long as the set-up hides weights only, what hides
values is fresh for each inference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import fx

from mpcc.errors import SecurityError
from mpcc.ir import curve, dealer, online
from mpcc.ir.info import info_of, weight_of
from mpcc.ir.nn import size_of
from mpcc.ir.ring import RING_BITS

from .layout import ring_of
from .program import Program
from .rounds import fixed_for_model

HIDES = {online.mask_with: online.open_, online.mask_bits: online.open_bits}
"""What a masked value may be given to (a weight's: `open_weight`)."""
OPENS = frozenset({online.open_, online.open_bits, online.open_weight})
TREES = frozenset({dealer.tree, dealer.roots, dealer.tree_keys})
HINT = "The program was edited or the compiler is wrong: do not run it. Make the bundle again with `mpcc optimize`."


def check_masks(program: Program) -> None:
    """SecurityError that lists every value that would leave a party without a mask of its own."""
    faults = [*_openings(program), *_masks(program), *_phases(program), *_trees(program), *_revealed(program), *_floods(program)]
    if faults:
        more = f" (and {len(faults) - 8} more)" if len(faults) > 8 else ""
        raise SecurityError("; ".join(faults[:8]) + more, where="check of the masks", hint=HINT)


def _sources(program: Program) -> dict[str, fx.Node]:
    """Online placeholder -> the dealer node that it shares."""
    nodes = {n.name: n for n in program.dealer.graph.nodes}
    return {share: nodes[source] for share, source in program.correlations if source in nodes}


def _openings(program: Program) -> Iterator[str]:
    """Only masked values are opened, each once, and nothing else is done with them."""
    for node in program.online.graph.nodes:
        if node.target in OPENS:
            masked = node.args[0]
            if not isinstance(masked, fx.Node) or masked.target not in HIDES:
                yield f"{node.name} opens {masked}, which has no mask"
            if node.target is online.open_ and ring_of(node) not in range(1, RING_BITS + 1):
                yield f"{node.name} opens {ring_of(node)} bits, which is not a part of a word"
        if node.target in HIDES:
            weight = _is_weight(node.args[0])
            wanted: Any = online.open_weight if weight else HIDES[node.target]
            users = list(node.users)
            if len(users) != 1 or users[0].target is not wanted:
                yield f"{node.name} goes to {[u.name for u in users]}, not to one {wanted.__name__} alone"


def _masks(program: Program) -> Iterator[str]:
    """Every random value of the dealer hides exactly one value, of its own size."""
    sources = _sources(program)
    hides: defaultdict[fx.Node, list[str]] = defaultdict(list)
    for node in program.online.graph.nodes:
        if node.target not in HIDES:
            continue
        mask = node.args[1] if len(node.args) > 1 else None
        source = sources.get(mask.name) if isinstance(mask, fx.Node) else None
        random = None if source is None else _uniform(source, node.target)
        if random is None:
            yield f"{node.name} is masked by {mask}, which is not uniform"
            continue
        hides[random].append(node.name)
        if _count(mask) != _count(node) or _count(node.args[0]) > _count(node):
            yield f"{node.name} hides {_count(node)} values behind {_count(mask)} of {mask}"
        if _is_weight(node.args[0]) != (random.target is dealer.weight_mask):
            yield f"{node.name} needs a mask {'of the set-up' if _is_weight(node.args[0]) else 'of its own inference'}"
    for node in program.dealer.graph.nodes:
        if node.target in dealer.RANDOM - dealer.UNHIDING and len(hides[node]) != 1:
            yield f"the mask {node.name} hides {len(hides[node])} values: {', '.join(hides[node]) or 'none'}"


def _uniform(source: fx.Node, target: Any) -> fx.Node | None:
    """The random dealer node behind a mask, if the mask is uniform for this way of hiding."""
    if target is online.mask_with:
        return source if source.target in (dealer.mask, dealer.weight_mask) else None
    if source.target is dealer.plane_masks:
        return source
    if source.target is dealer.packed:
        bits = source.args[0]
        return bits if isinstance(bits, fx.Node) and bits.target is dealer.random_bits else None
    return None


def _phases(program: Program) -> Iterator[str]:
    """What comes from the seed of the set-up is that which depends on weight masks only."""
    nodes, fixed = program.nodes, fixed_for_model(program.dealer.graph)
    for share, source in _sources(program).items():
        if share not in nodes:
            yield f"{share} is not a value of the program"
        elif (info_of(nodes[share]).phase == "setup") != (source in fixed):
            yield f"{share} is dealt in the phase {info_of(nodes[share]).phase!r}, which is not its own"
        elif _count(nodes[share]) != _count(source):
            yield f"{share} has {_count(nodes[share])} values, {source.name} {_count(source)}"
    known = _sources(program)
    for node in program.online.graph.nodes:
        if node.op == "placeholder" and info_of(node).given is None and node.name not in known:
            yield f"{node.name} has no source"
    if len(dict(program.correlations)) != len(program.correlations):
        yield "a correlation is listed twice"


def _trees(program: Program) -> Iterator[str]:
    """A tree is about the mask of one opening, has roots and AES keys of its own, and is used by one gate, of that opening."""
    sources, taken = _sources(program), set[fx.Node]()
    for node in program.online.graph.nodes:
        if node.target is curve.curve:
            c, roots, key, depth, low, fine, table, _ = node.args
            degree = len(table) - 1
            found = _tree_of(sources, c, roots, key, (depth, low, degree, fine))
            if isinstance(found, str):
                yield f"{node.name} {found}"
            elif taken & found or any(len(share.users) != 1 for share in (roots, key)):
                yield f"{node.name} is computed with a tree that is used elsewhere too"
            else:
                taken |= found
    for node in program.dealer.graph.nodes:
        if node.target in TREES and node not in taken:
            yield f"{node.name} is of no gate"


def _tree_of(sources: dict[str, fx.Node], c: Any, roots: Any, key: Any, form: tuple[Any, ...]) -> set[fx.Node] | str:
    """What a gate's tree consists of in the dealer's graph, each read by the tree alone; or what is wrong with it."""
    depth, low, degree, fine = form
    while isinstance(c, fx.Node) and c.target is online.moved:
        c = c.args[0]
    masked = c.args[0] if isinstance(c, fx.Node) and c.target is online.open_ else None
    mask = sources.get(masked.args[1].name) if isinstance(masked, fx.Node) and isinstance(masked.args[1], fx.Node) else None
    if mask is None or mask.target is not dealer.mask or ring_of(c) < depth + low:
        return f"is not of an opening of at least {depth + low} bits"
    tree = sources.get(key.name) if isinstance(key, fx.Node) else None
    start = sources.get(roots.name) if isinstance(roots, fx.Node) else None
    if tree is None or tree.target is not dealer.tree or start is None or start.target is not dealer.roots:
        return "is not computed with the key and the roots of a tree"
    wanted_point, wanted_payload = (dealer.point, (mask, depth, low)), (dealer.powers, (mask, low, degree, fine))
    first, keys, point, payload, deep = tree.args
    parts = [(point, wanted_point), (payload, wanted_payload)]
    if first is not start or deep != depth or any((part.target, part.args) != wanted for part, wanted in parts):  # type: ignore[union-attr]
        return "is computed with a tree that is not about the mask of its opening"
    if any(user is not tree and user.op != "output" for part in (start, keys) for user in part.users):  # type: ignore[union-attr]
        return "is computed with a tree whose roots or keys are used elsewhere too"
    return {tree, start, keys}  # type: ignore[arg-type]


def _revealed(program: Program) -> Iterator[str]:
    """Outputs are revealed, nothing else."""
    outputs = {name for name, _ in program.outputs}
    for node in program.online.graph.nodes:
        if node.target is online.reveal and (node.name not in outputs or any(u.op != "output" for u in node.users)):
            yield f"{node.name} reveals {node.args[0]}, which is not an output"
    for name in outputs:
        if name not in program.nodes or program.nodes[name].target is not online.reveal:
            yield f"the output {name} is not a revealed value"


def _floods(program: Program) -> Iterator[str]:
    """An output leaves only with noise added that is used for nothing else."""
    sources, used = _sources(program), set[fx.Node]()
    for node in program.online.graph.nodes:
        if node.target is not online.reveal:
            continue
        flooded = node.args[0]
        if not isinstance(flooded, fx.Node) or flooded.target is not online.flooded:
            yield f"{node.name} reveals {flooded}, which is not flooded"
            continue
        share = flooded.args[1]
        source = sources.get(share.name) if isinstance(share, fx.Node) else None
        if source is None or source.target is not dealer.noise or _count(source) != _count(node):
            yield f"{flooded.name} is flooded with {share}, which is no noise of its size"
        elif source in used or _read_elsewhere(flooded, share, source):
            yield f"{flooded.name} is flooded with {share}, which is used elsewhere too"
        else:
            used.add(source)


def _read_elsewhere(flooded: fx.Node, *noise: Any) -> bool:
    return len(flooded.users) != 1 or any(user not in (flooded, *noise) for n in noise for user in n.users if user.op != "output")


def _is_weight(node: Any) -> bool:
    return isinstance(node, fx.Node) and weight_of(node) is not None


def _count(node: Any) -> int:
    return size_of(node) if isinstance(node, fx.Node) else 0
