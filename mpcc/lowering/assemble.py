"""The last step of lowering: what the builder recorded becomes a Program; what nothing reads is dropped."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from mpcc.ir import dealer, online
from mpcc.ir.info import input_of, weight_of
from mpcc.ir.nn import shape_of
from mpcc.ir.uncompiled import Uncompiled
from mpcc.program.program import Program
from mpcc.program.rounds import fixed_for_model, schedule

from .builder import Builder
from .scales import Ledger
from .values import Secret


def assemble(b: Builder, outputs: Sequence[tuple[str, Secret]], ledger: Ledger) -> Program:
    """The program that reveals `outputs`, with its phases and rounds annotated and its failure probabilities.

    What each output is flooded with has no size yet: see `flood`.
    """
    flooded = {s.node: _flooded(b, s.node) for _, s in outputs}  # a value that is two outputs has one noise
    revealed = [(b.on(online.reveal, flooded[s.node]), s.scale) for _, s in outputs]
    b.online.output(tuple(n for n, _ in revealed))
    b.online.eliminate_dead_code()
    for node in [n for n in b.online.nodes if n.op == "placeholder" and not n.users and input_of(n) is None]:
        b.online.erase_node(node)
    sources = {share: source for source, share in b.correlations.items()}
    kept = [(sources[share], share) for share in b.online.nodes if share in sources]
    b.dealer.output(tuple(source for source, _ in kept))
    b.dealer.eliminate_dead_code(lambda n: n.op in ("output",))
    fixed = fixed_for_model(b.dealer)
    schedule(b.online, {share for source, share in kept if source in fixed})
    names = {weight.constant for n in b.online.nodes if (weight := weight_of(n)) is not None}
    return Program(
        Uncompiled(b.online),
        Uncompiled(b.dealer),
        tuple((share.name, source.name) for source, share in kept),
        tuple((node.name, scale) for node, scale in revealed),
        {name: value for name, value in b.constants.items() if name in names},
        ledger.public(),
    )


def _flooded(b: Builder, share: fx.Node) -> fx.Node:
    """The share with the dealer's noise, of its own for every output."""
    noise = b.correlation(b.fresh(dealer.noise, shape_of(share), 0))
    return b.on(online.flooded, share, noise, 0)
