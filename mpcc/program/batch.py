"""A program for several inputs at once: every value gets one more dimension in front, so a batch takes the rounds of one.

    batched(program, 16)      inputs [1, 1, 8, 8] -> [16, 1, 1, 8, 8], outputs [1, 10] -> [16, 1, 10]

Nothing else changes: the same scales, truncations and rings, so the answers are those of the program itself. Every role makes the
batch by itself from the same program.json, so that the parties still compare one digest.
"""

from __future__ import annotations

from mpcc.ir import online
from mpcc.ir.nn import size_of
from mpcc.ir.ring import words
from mpcc.ir.uncompiled import Uncompiled

from .batch_graph import Batch
from .batch_rules import RULES
from .program import Program
from .rounds import fixed_for_model, schedule


def batched(program: Program, size: int) -> Program:
    """The program for `size` inputs; for 1 the program itself. UnsupportedOperator names a node that cannot be batched."""
    if size == 1:
        return program
    fixed = fixed_for_model(program.dealer.graph)
    dealt = Batch(size, fixed, _plane_words(program, size))
    for node in program.dealer.graph.nodes:
        if node.op != "output":
            dealt.write(node, RULES)
    sources = dict(program.correlations)
    made = Batch(size, set(), {}, {share: dealt.made[dealt.named[source]] for share, source in sources.items()}, dealt.kinds)
    for node in program.online.graph.nodes:
        if node.op != "output":
            made.write(node, RULES)
    online_graph, dealer_graph = made.graph, dealt.graph
    online_graph.output(tuple(made.made[program.nodes[name]] for name, _ in program.outputs))
    dealer_graph.output(tuple(dealt.made[dealt.named[source]] for _, source in program.correlations))
    lasting = fixed_for_model(dealer_graph)
    shares = {made.made[program.nodes[share]]: made.sources[share] for share in sources}
    schedule(online_graph, {share for share, source in shares.items() if source in lasting})
    return Program(
        Uncompiled(online_graph),
        Uncompiled(dealer_graph),
        tuple((share.name, source.name) for share, source in shares.items()),
        program.outputs,
        program.constants,
        tuple((name, size * count, min(1.0, size * p)) for name, count, p in program.failures),
        program.hidden,  # rows have masks and noise of their own: each is an answer, with steps as high
    )


def _plane_words(program: Program, size: int) -> dict[str, int]:
    """How many words a plane of masks has in the batch, by its dealer node: packed bits of all inputs follow one another."""
    sources, found = dict(program.correlations), {}
    for node in program.online.graph.nodes:
        if node.target is online.mask_bits and node.args[0].target is online.planes:
            leaf, mask = node.args[0].args[0], node.args[1]
            found[sources[mask.name]] = words(size * size_of(leaf.args[0]))
    return found
