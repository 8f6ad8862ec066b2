"""The last step of lowering: what the builder recorded becomes a Program; what nothing reads is dropped."""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir import online
from mpcc.program.program import Program, Uncompiled
from mpcc.program.rounds import annotate, fixed_for_model

from .builder import Builder
from .scales import Ledger
from .values import Secret


def assemble(b: Builder, outputs: Sequence[tuple[str, Secret]], ledger: Ledger) -> Program:
    """The program that reveals `outputs`, with its phases and rounds annotated and its failure probabilities."""
    revealed = [(b.on(online.reveal, s.node), s.scale) for _, s in outputs]
    b.online.output(tuple(n for n, _ in revealed))
    b.online.eliminate_dead_code()
    used = {n for n in b.online.nodes}
    for node in [n for n in b.online.nodes if n.op == "placeholder" and not n.users and n.meta["kind"] != "input"]:
        b.online.erase_node(node)
        used.discard(node)
    kept = [(source, share) for source, share in b.correlations.items() if share in used]
    b.dealer.output(tuple(source for source, _ in kept))
    b.dealer.eliminate_dead_code(lambda n: n.op in ("output",))
    annotate(b.online, {share for source, share in kept if fixed_for_model(source)})
    names = {str(n.meta["constant"]) for n in b.online.nodes if n.meta.get("kind") == "weight"}
    return Program(
        Uncompiled({}, b.online),
        Uncompiled({}, b.dealer),
        tuple((share.name, source.name) for source, share in kept),
        tuple((node.name, scale) for node, scale in revealed),
        {name: value for name, value in b.constants.items() if name in names},
        tuple(ledger.entries),
    )
