"""Private inferences of an executable under SPU: calls of its circuit, answers as the client reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mpcc import registry
from mpcc.cost import LAN, Estimate, estimate_graph
from mpcc.errors import BundleError, UsageError
from mpcc.ir.circuit import Circuit
from mpcc.lowering.circuits import Made, graph_of

from .engine import SpuRun, parties_of, run_here

if TYPE_CHECKING:
    from mpcc.runtime.executable import Executable
    from mpcc.show.report import Elsewhere


def circuit_in(executable: Executable) -> Made:
    """What SPU runs of it. UsageError for a bundle of mpcc's own protocol, BundleError where circuit and program differ."""
    made = executable.circuit
    if made is None:
        hint = "Make one for SPU: mpcc optimize MODEL --protocol aby3 (or cheetah, semi2k; see `mpcc protocols`)."
        raise UsageError("this bundle was not made for a protocol that SPU runs", where="--engine spu", hint=hint)
    parties_of(made.circuit.protocol)
    shapes = [list(one.shape) for one in made.circuit.inputs]
    if shapes != [list(one) for one in executable.program_shapes] or len(made.circuit.outputs) != len(executable.program.outputs):
        hint = "Create the bundle again with `mpcc optimize`."
        raise BundleError("its inputs and outputs are not those of program.json", where="circuit.json", hint=hint)
    return made


def run_calls(executable: Executable, calls: Sequence[Sequence[Tensor]], python: Path | None = None) -> list[SpuRun]:
    """An inference for each checked call of the program, all parties on this machine."""
    made = circuit_in(executable)
    graph_of(made.circuit, made.weights)  # a message of ours where something in it does not fit
    return run_here(made.circuit, made.weights, calls, python)


def predicted(circuit: Circuit) -> Estimate:
    """Hops, messages and bytes of one inference, by the price table of the circuit's protocol."""
    return estimate_graph(graph_of(circuit), registry.protocol(circuit.protocol), LAN)


def elsewhere(circuit: Circuit) -> Elsewhere:
    """What a report says of it."""
    from mpcc.show.report import Elsewhere

    protocol, cost = registry.protocol(circuit.protocol), predicted(circuit)
    counts = (round(float(one)) for one in (cost.messages, cost.rounds, cost.bytes))
    return Elsewhere(protocol.trust, protocol.engine, circuit.fraction_bits, *counts)
