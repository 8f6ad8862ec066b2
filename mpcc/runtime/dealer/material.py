"""Correlated randomness: what the dealer computes, and what a party expands from its own seed.

Masks are the sum (bits: the xor) of what both parties expand from their seeds; a weight's mask is party 0's alone.
Everything derived from masks is shared as (one party's expansion, the rest): only the rest travels, to the other party, which is
either in turn, so that both links carry as much (`Program.dealt_to`). Keys of trees travel to both, the same; the roots that they
start from are each party's own expansion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir import dealer
from mpcc.program.program import Program, from_seed
from mpcc.program.rounds import fixed_for_model

from ..device.device import CPU, Device
from .randomness import derive, noise, uniform, uniform_bits


@dataclass(frozen=True)
class Seeds:
    """The seeds of one set-up and of one inference, as one party (or the dealer, for that party) holds them."""

    setup: bytes
    inference: bytes

    @staticmethod
    def of(session: bytes, number: int) -> Seeds:
        """`number` counts inferences: no two of them share a mask."""
        return Seeds(derive(session, "setup"), derive(session, f"inference {number}"))

    def choose(self, fixed: bool) -> bytes:
        return self.setup if fixed else self.inference


class Recipe:
    """The dealer program of a Program, ordered, with the phase of each correlation; all values are on `device`."""

    def __init__(self, program: Program, device: Device = CPU) -> None:
        self.device, self.kernels = device, device.dealing()
        self.sources = {n.name: n for n in program.dealer.graph.nodes}
        self.to = program.dealt_to
        self.fixed = fixed_for_model(program.dealer.graph)
        # share name, dealer node, fixed for the model, boolean
        self.entries: list[tuple[str, fx.Node, bool, bool]] = []
        for share, source in program.correlations:
            dealt = self.sources[source]
            self.entries.append((share, dealt, dealt in self.fixed, dealt.target in dealer.PACKED))

    def travelling(self, setup: bool, party: int | None = None) -> Iterator[tuple[str, fx.Node, bool]]:
        """The correlations of a phase that a party (None: any) gets over the wire, in order: (share, dealer node, boolean)."""
        for share, source, fixed, boolean in self.entries:
            if fixed == setup and (self.to[share] if party is None else party in self.to[share]):
                yield share, source, boolean

    def expand(self, party: int, seeds: Seeds, setup: bool) -> dict[str, Tensor | None]:
        """The shares of a phase that a party expands from its seeds alone (a weight's mask is None at party 1)."""
        shares: dict[str, Tensor | None] = {}
        for share, source, fixed, _ in self.entries:
            if fixed != setup:
                continue
            seed = seeds.choose(fixed)
            if source.target is dealer.weight_mask and party == 1:
                shares[share] = None
            elif source.target is dealer.roots:
                shares[share] = self.roots(party, seed, source)
            elif from_seed(source):
                shares[share] = self.uniform(seed, f"random {source.name}", source)
            elif party not in self.to[share]:
                shares[share] = self.uniform(seed, f"share {source.name}", source)
        return shares

    def both(
        self, seeds: tuple[Seeds, Seeds], own: Seeds, setup: bool
    ) -> tuple[dict[str, Tensor | None], dict[str, Tensor | None]]:
        """All that the two parties have in a phase, seeds expanded and what the dealer sends: for engines in one process."""
        first, second = (self.expand(party, seeds[party], setup) for party in (0, 1))
        for (share, _, _), value in zip(self.travelling(setup), self.deal(seeds, own, setup), strict=True):
            for party in self.to[share]:
                (first, second)[party][share] = value
        return first, second

    def deal(self, seeds: tuple[Seeds, Seeds], own: Seeds, setup: bool) -> Iterator[Tensor]:
        """What the parties need beyond their seeds, as ordered by `travelling`. `own` seeds what neither party may know."""
        dealing = _Dealing(self, seeds, own, [source for _, source, _ in self.travelling(setup)])
        for share, source, boolean in self.travelling(setup):
            value = dealing.value(source)
            if source.target in dealer.COMMON:
                yield value
                dealing.used(source)
                continue
            (party,) = self.to[share]
            others = self.uniform(seeds[1 - party].choose(setup), f"share {source.name}", source)
            yield value ^ others if boolean else value - others
            dealing.used(source)

    def uniform(self, seed: bytes, label: str, node: fx.Node) -> Tensor:
        """Uniform words of a node's shape."""
        return uniform(seed, label, _shape(node), self.device.draw)

    def roots(self, party: int, seed: bytes, node: fx.Node) -> Tensor:
        """A party's roots of trees: uniform, but for the lowest bit of each, which is the party's number."""
        made = self.uniform(seed, f"random {node.name}", node)
        made[..., 0] = made[..., 0] & -2 | party
        return made


class _Dealing:
    """The values of one run of the dealer program: each is computed once and dropped after its last use."""

    def __init__(self, recipe: Recipe, seeds: tuple[Seeds, Seeds], own: Seeds, wanted: list[fx.Node]) -> None:
        self.recipe, self.fixed, self.seeds, self.own = recipe, recipe.fixed, seeds, own
        self.values: dict[fx.Node, Any] = {}
        self.uses: Counter[fx.Node] = Counter(wanted)
        seen, waiting = set(wanted), list(dict.fromkeys(wanted))
        while waiting:
            for source in waiting.pop().all_input_nodes:
                self.uses[source] += 1
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)

    def value(self, node: fx.Node) -> Any:
        if node not in self.values:
            self.values[node] = self._drawn(node) if node.target in dealer.RANDOM else self._computed(node)
        return self.values[node]

    def used(self, node: fx.Node) -> None:
        self.uses[node] -= 1
        if not self.uses[node]:
            del self.values[node]

    def _computed(self, node: fx.Node) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.value)
        target: Any = self.recipe.kernels.get(node.target, node.target)
        value = target(*args, **kwargs)
        for source in node.all_input_nodes:
            self.used(source)
        return value

    def _drawn(self, node: fx.Node) -> Tensor:
        fixed, label, recipe = node in self.fixed, f"random {node.name}", self.recipe
        own, draw = self.own.choose(fixed), recipe.device.draw
        if node.target is dealer.random_bits:
            return uniform_bits(own, label, _shape(node), draw)
        if node.target is dealer.roots:
            return torch.stack([recipe.roots(party, seeds.choose(fixed), node) for party, seeds in enumerate(self.seeds)])
        if node.target is dealer.tree_keys:
            return recipe.uniform(own, label, node)
        if node.target is dealer.noise:
            return recipe.device.on_it(noise(own, label, _shape(node), _bits(node), draw))
        value = recipe.uniform(self.seeds[0].choose(fixed), label, node)
        if node.target is dealer.weight_mask:
            return value
        other = recipe.uniform(self.seeds[1].choose(fixed), label, node)
        return value ^ other if node.target is dealer.plane_masks else value + other


def _bits(node: fx.Node) -> int:
    bits = node.args[1]
    assert isinstance(bits, int)
    return bits


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)
