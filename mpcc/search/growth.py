"""What one inference costs with more or fewer tokens, all else equal: what a larger image, or smaller patches, would take.

The model's own row is exact. The others are those of the same program with other shapes (`mpcc.ir.tokens`): the same openings of
as many bits each. A model of that size would have other weights and ranges, and the compiler would cut a bit more or less
somewhere; how far off that is, docs/tokens.json says, which `python -m benchmarks.tokens` writes. Before follows from formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx

from mpcc.cost import Compute, Network, PhaseCost, Protocol
from mpcc.errors import UsageError
from mpcc.ir.tokens import Tokens, stretched, tokens_of
from mpcc.ir.uncompiled import Uncompiled
from mpcc.program import Program

from .pricing import stock_estimate
from .program_cost import program_estimate

TIMES = (0.5, 1, 2, 4)
"""Of the model's own tokens: four times as many are an image of twice the side."""


@dataclass(frozen=True)
class Size:
    """The online phase at so many tokens, before and after."""

    tokens: int
    before: PhaseCost
    after: PhaseCost


@dataclass(frozen=True)
class Growth:
    """Costs at several numbers of tokens, in order; the model's own is `here`."""

    here: int
    sizes: tuple[Size, ...]


@dataclass(frozen=True)
class Terms:
    """What the cost of a program is predicted by, and the model that it was made of."""

    whole: fx.GraphModule
    protocol: Protocol
    network: Network
    compute: Compute

    def growth(self, program: Program, counts: Sequence[int] = ()) -> Growth:
        """The costs of a program at these numbers of tokens (default: TIMES its own). UsageError says why they are not known."""
        if not self.protocol.scheduled:
            raise UsageError(f"{self.protocol.name} is priced by tables, for which `mpcc profile --symbolic` has formulas")
        tokens = tokens_of(self.whole)
        counts = counts or sorted({max(tokens.besides + 1, round(tokens.count * times)) for times in TIMES})
        return Growth(tokens.count, tuple(self._size(tokens, count, program) for count in counts))

    def _size(self, tokens: Tokens, count: int, program: Program) -> Size:
        whole = fx.GraphModule(self.whole, stretched(self.whole.graph, tokens, count))
        before = stock_estimate(whole, self.protocol, self.network)
        online = Uncompiled(stretched(program.online.graph, tokens, count))
        after = program_estimate(replace(program, online=online), self.protocol, self.network, self.compute)
        return Size(count, before.phases()["online"], after.phases()["online"])
