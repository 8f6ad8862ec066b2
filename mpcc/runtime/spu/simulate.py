"""Runs a graph under SPU's simulation, all parties as threads of this process, and reads SPU's own counters.

    run = run_spu(graph, [image], "semi2k")
    run.outputs, run.bytes      -> plain tensors; bytes sent by all parties together
    run.sends                   -> messages that party 0 sent
    run.rows["pphlo.multiply"]  -> Row(calls=12, bytes=..., sends=...)

Weights and inputs are secret. The counters come from SPU's profile, which it only writes to its log.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from mpcc.errors import MissingDependency, PartyError, UnsupportedOperator
from mpcc.ir.circuit import Circuit
from mpcc.ir.nn import attribute
from mpcc.lowering.circuits import name_of

from .compiled import compiled, compiled_function, configuration, numbers
from .counters import counted, together
from .engine import INSTALL, parties_of
from .job import RECEIVE_MILLISECONDS, Row

Array = np.ndarray[Any, Any]
FRACTION_BITS = 18


@dataclass(frozen=True)
class SpuRun:
    """What came out, and what SPU counted: totals over all parties."""

    outputs: tuple[torch.Tensor, ...]
    bytes: int
    sends: int
    rows: Mapping[str, Row]


def run_spu(
    graph: fx.GraphModule,
    inputs: Sequence[torch.Tensor],
    protocol: str,
) -> SpuRun:
    """One private inference of a graph at the nn or the mpc level."""
    parties = parties_of(protocol)
    _spu()
    function, weights = lowered(graph)
    values = [*(weight for weight in weights.values()), *(tensor.detach().numpy() for tensor in inputs)]
    return _run(compiled_function(function, values), configuration(protocol, FRACTION_BITS), values, (), parties)


def run_circuit(circuit: Circuit, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> SpuRun:
    """One private inference of a circuit, as parties in processes run it. Inputs and outputs are as in the circuit."""
    parties = parties_of(circuit.protocol)
    _spu()
    given = [*inputs, *(weights[one.name] for one in circuit.weights)]
    values = [one.detach().numpy() for one in given]
    config = configuration(circuit.protocol, circuit.fraction_bits)
    return _run(compiled(circuit), config, values, (numbers(circuit),), parties)


def _run(executable: Any, config: Any, secret: Sequence[Array], public: Sequence[Array], parties: int) -> SpuRun:
    log = _log()
    start = log.stat().st_size
    parts = _parties(executable, config, secret, public, parties)
    with log.open(encoding="utf-8") as text:
        text.seek(start)
        found = text.read()
    return _counted(parts, found, parties)


def lowered(graph: fx.GraphModule) -> tuple[Callable[..., tuple[Any, ...]], dict[str, Array]]:
    """(a function of the weights, then the inputs, over jax values; the weights by name). Whole numbers are constants."""
    from .operators import FUNCTIONS

    nodes = list(graph.graph.nodes)
    missing = sorted({str(n.target) for n in nodes if n.op == "call_function" and name_of(n.target) not in FUNCTIONS})
    if missing:
        raise UnsupportedOperator(f"SPU's simulation does not know {', '.join(missing)}")
    tensors = {n.name: attribute(graph, str(n.target)).detach().numpy() for n in nodes if n.op == "get_attr"}
    weights = {name: value for name, value in tensors.items() if value.dtype.kind == "f"}

    def function(*values: Any) -> tuple[Any, ...]:
        env: dict[str, Any] = {**tensors, **dict(zip(weights, values, strict=False))}
        given = iter(values[len(weights) :])
        for node in nodes:
            if node.op == "placeholder":
                env[node.name] = next(given)
            elif node.op == "call_function":
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: env[n.name])
                env[node.name] = FUNCTIONS[name_of(node.target)](*args, **kwargs)
            elif node.op == "output":
                found = fx.node.map_arg(node.args[0], lambda n: env[n.name])
                return tuple(found) if isinstance(found, tuple | list) else (found,)
        raise AssertionError("a graph ends in its output")

    return function, weights


def _parties(executable: Any, config: Any, secret: Sequence[Array], public: Sequence[Array], count: int) -> list[list[Any]]:
    """The parties' outputs; party by party in threads, over channels in memory."""
    libspu, api = _spu()
    io = api.Io(count, config)
    shares = [io.make_shares(np.array(value), libspu.Visibility.VIS_SECRET) for value in secret]
    shares += [io.make_shares(value, libspu.Visibility.VIS_PUBLIC) for value in public]
    who = libspu.link.Desc()
    who.recv_timeout_ms = RECEIVE_MILLISECONDS
    for rank in range(count):
        who.add_party(f"party{rank}", f"thread{rank}")
    outputs: dict[int, list[Any]] = {}
    failures: list[BaseException] = []

    def party(rank: int) -> None:
        try:
            runtime = api.Runtime(libspu.link.create_mem(who, rank), libspu.RuntimeConfig(config))
            for name, share in zip(executable.input_names, shares, strict=True):
                runtime.set_var(name, share[rank])
            runtime.run(executable)
            outputs[rank] = [runtime.get_var(name) for name in executable.output_names]
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=party, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        said = " ".join(str(failures[0]).partition("stacktrace:")[0].split())
        raise PartyError(f"SPU failed: {said}") from failures[0]
    return [io.reconstruct([outputs[rank][i] for rank in range(count)]) for i in range(len(executable.output_names))]


def _counted(outputs: Sequence[Any], log: str, parties: int) -> SpuRun:
    """Threads write to one log: rows of the parties may stand between one another."""
    totals = counted(log)
    if len(totals) != parties:
        raise PartyError(f"SPU's log holds the counters of {len(totals)} parties, not {parties}")
    rows = together([{name: row} for _, _, found in totals for name, row in found])
    tensors = tuple(torch.from_numpy(np.array(output)) for output in outputs)
    return SpuRun(tensors, sum(size for size, _, _ in totals), sum(sends for _, sends, _ in totals), rows)


@cache
def _spu() -> tuple[Any, Any]:
    try:
        import spu.api as api
        import spu.libspu as libspu
    except ImportError as error:
        raise MissingDependency("SPU is not installed", hint=f"Install it with: {INSTALL}") from error
    return libspu, api


@cache
def _log() -> Path:
    """The file that SPU logs to from now on, in this process."""
    libspu, _ = _spu()
    path = Path(tempfile.mkdtemp(prefix="mpcc-spu-")) / "spu.log"
    options = libspu.logging.LogOptions()
    options.enable_console_logger = False
    options.system_log_path = str(path)
    libspu.logging.setup_logging(options)
    return path
