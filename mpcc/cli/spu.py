"""mpcc run --engine spu: the parties of SPU on this machine, or this machine as one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mpcc.errors import SecurityError, UsageError

from .screen import say

if TYPE_CHECKING:
    from mpcc.ir.circuit import Circuit
    from mpcc.runtime.executable import Executable
    from mpcc.runtime.spu.engine import Place, SpuRun

    from .predicted import Predicted

SERVER, CLIENT = "server", "client"


def here(
    bundle: Path, inputs: list[Path] | None, repeat: int, strict: bool, first: int | None, python: Path | None
) -> tuple[Sequence[SpuRun], Predicted, list[str]]:
    """All parties as processes of this machine; and what is unlike calibration. Without inputs, an example."""
    from mpcc.runtime.executable import Executable
    from mpcc.runtime.spu.engine import interpreter
    from mpcc.runtime.spu.running import circuit_in, run_calls

    from .guard import asked_of

    executable = Executable.load(bundle)
    expected = _predicted(circuit_in(executable).circuit)
    interpreter(python)
    once, watch = asked_of(executable, inputs, strict, first)
    asked = [executable.call(*call) for call in once]
    watch.inputs(asked)
    done = run_calls(executable, asked * repeat, python)
    watch.outputs([one.outputs for one in done[-len(asked) :]])
    return _answered(executable, done), expected, watch.found


def take_part(
    bundle: Path, place: Place, inputs: list[Path], count: int, strict: bool, first: int | None, python: Path | None,
    insecure_dealer: bool,
) -> tuple[Sequence[SpuRun], Predicted, list[str]]:  # fmt: skip
    """This machine's part of `count` inferences of every input; the parties that bring none count those of the client, too."""
    from mpcc import registry, security
    from mpcc.bundle import open_bundle
    from mpcc.runtime.executable import Executable
    from mpcc.runtime.inputs import guard_of
    from mpcc.runtime.spu.engine import run_party
    from mpcc.runtime.spu.running import circuit_in

    from .guard import Watch
    from .tensors import calls

    opened = open_bundle(bundle, weights=place.role == SERVER)
    executable = Executable.of(opened)
    made = circuit_in(executable)
    if registry.protocol(made.circuit.protocol).dealer and not insecure_dealer:
        what = f"under {made.circuit.protocol} SPU's dealer is the server, who can then read the client's input"
        raise SecurityError(what, where="--engine spu", hint="Take aby3 or cheetah, or accept it: --insecure-dealer.")
    if insecure_dealer:
        say(f"NOT PRIVATE: {security.INSECURE_DEALER}")
    found = calls(inputs, executable.input_shapes, executable.input_names)[:first] if inputs else []
    asked = [executable.call(*call) for call in found]
    watch = Watch(guard_of(opened.plan, opened.program), strict)
    watch.inputs(asked)
    trust = registry.protocol(made.circuit.protocol)
    say(f"{trust.title}: {trust.adversary}; {trust.collusion}")
    say(f"{place.role}: meeting the other parties ...")
    weights = made.weights if place.role == SERVER else None
    done = run_party(made.circuit, weights, asked * count, place, len(asked) * count if asked else count, python)
    if place.role == CLIENT:
        watch.outputs([one.outputs for one in done[-len(asked) :]])
        done = _answered(executable, done)
    return done, _predicted(made.circuit), watch.found


def place_of(role: str, peers: str | None, tls: Path | None) -> Place:
    """What --party, --peers and --tls say. UsageError for roles and addresses that are none."""
    from mpcc.runtime.net.connect import parse_hosts
    from mpcc.runtime.net.identity import Identity
    from mpcc.runtime.spu.engine import Place
    from mpcc.runtime.spu.job import ROLES

    if role not in ROLES:
        raise UsageError(f"unknown party {role!r}", where="--party", hint=f"Under SPU: {', '.join(ROLES)}.")
    hint = "--peers host:port,host:port[,host:port], of the server, the client and the helper"
    if peers is None:
        raise UsageError("--party needs the addresses of the others", hint=hint)
    return Place(role, parse_hosts(peers, hint), None if tls is None else Identity.of(tls, role))


def _answered(executable: Executable, done: Sequence[SpuRun]) -> list[SpuRun]:
    """With what the client makes of the opened outputs."""
    if executable.answers is None:
        return list(done)
    return [replace(one, outputs=tuple(executable.answers.of(one.outputs))) for one in done]


def _predicted(circuit: Circuit) -> Predicted:
    """Its rounds are what a run counts: the messages of a party on average."""
    from mpcc.runtime.spu.engine import parties_of
    from mpcc.runtime.spu.running import predicted

    from .predicted import Predicted

    found = predicted(circuit)
    messages = float(found.messages) / parties_of(circuit.protocol)
    return Predicted(round(messages), round(float(found.bytes)), None, "no network")
