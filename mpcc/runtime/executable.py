"""An executable: a program with its weights, run by separate processes, or emulated in this one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from torch import Tensor, fx

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.bundle.owner import new_key, version_of
from mpcc.cost import Network
from mpcc.errors import BundleError, OutsideRange, UsageError
from mpcc.ir.answers import NOTE as ANSWERS
from mpcc.ir.answers import Answers
from mpcc.ir.info import input_of
from mpcc.ir.nn import inputs_of
from mpcc.lowering.circuits import Made
from mpcc.program import Program

from .inputs import answers_of, check_shapes, check_values, cut_calls, guard_of, tensors, unlike_inputs
from .local_part import LocalPart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mpcc.bundle import Bundle
    from mpcc.calibration import Guard, RangeViolation
    from mpcc.show.report import Comparison

    from .crypten.inside import PartyState
    from .engine.emulate import Emulator

ENGINES = ("mpcc", "spu")
Reference = Callable[[], fx.GraphModule | None]


@dataclass(frozen=True)
class Run:
    """One private inference as measured. `outputs` are plain tensors, opened to the caller (the client).

    `rounds`, `bytes` (both directions), `seconds` are the online phase; `setup` is the set-up of the session. `warnings`
    say what of the input and the outputs is unlike calibration, so that the answer may be wrong. `opened` is what the parties
    opened to the client, which computed the outputs of it.
    """

    outputs: tuple[Tensor, ...]
    rounds: int
    bytes: int
    seconds: float
    setup: Any
    warnings: tuple[str, ...] = ()
    opened: tuple[Tensor, ...] = ()

    @property
    def in_range(self) -> bool:
        """Whether input and outputs are like those of calibration."""
        return not self.warnings

    @property
    def output(self) -> Tensor:
        return self.outputs[0]


class Executable:
    """What two parties run. Made by `mpcc.compile`, `Optimized.executable` or `mpcc.load`."""

    def __init__(
        self, program: Program, plan: Plan, module: fx.GraphModule | None = None, *, model: Reference | None = None,
        key: bytes | None = None, prefix: fx.GraphModule | None = None, circuit: Made | None = None,
    ) -> None:  # fmt: skip
        """`module` is the nn-level graph that the program was made of; `model` reads it when it is asked for. `key`: that of
        the bundle, or a new one. `prefix`: the public part of the model, which the client computes before the program runs.
        `circuit`: what SPU runs instead of the program, where the plan was made for one of its protocols."""
        self.program, self.plan, self.module, self.circuit = program, plan, module, circuit
        self.key = new_key() if key is None else key
        self._model = model
        self.local = None if prefix is None else LocalPart(prefix)
        self._party: PartyState | None = None
        self._emulators: dict[str, Emulator] = {}

    def _emulator(self, device: str | None) -> Emulator:
        from .device.card import place_of
        from .engine.emulate import Emulator

        place = place_of(device)
        if str(place) not in self._emulators:
            self._emulators[str(place)] = Emulator(self.program, place)
        return self._emulators[str(place)]

    @property
    def input_shapes(self) -> list[tuple[int, ...]]:
        """What the user gives: the inputs of the public part where there is one, else those of the program."""
        return self.program_shapes if self.local is None else self.local.shapes

    @property
    def input_names(self) -> list[str]:
        """The names of what the user gives, in order."""
        if self.local is not None:
            return [str(node.target) for node in inputs_of(self.local.module)]
        known = [input_of(node) for node in self.program.inputs()]
        return [one.name for one in known if one is not None]

    @property
    def private_part(self) -> Executable:
        """What the parties compute, without what the client does before and after: inputs and outputs are the program's."""
        notes = {name: value for name, value in self.plan.notes.items() if name != ANSWERS}
        return Executable(
            self.program, replace(self.plan, notes=notes), self.module, model=self._model, key=self.key, circuit=self.circuit
        )

    @cached_property
    def answers(self) -> Answers | None:
        """What the client computes of the opened outputs; None where these are the model's. PlanError where it is damaged."""
        return answers_of(self.plan, self.program)

    @property
    def program_shapes(self) -> list[tuple[int, ...]]:
        return [tuple(n.meta["val"].shape) for n in self.program.inputs()]

    @cached_property
    def guard(self) -> Guard | None:
        """What inputs and outputs are compared with; None for a plan of no calibration. PlanError where it is damaged."""
        return guard_of(self.plan, self.program)

    @cached_property
    def reference(self) -> fx.GraphModule | None:
        """The float model with the plan's names at its sites; None where the bundle has none."""
        if self.module is not None or self._model is None:
            return self.module
        from mpcc.calibration import named_like

        found = self._model()
        return None if found is None else named_like(found, self.plan)

    def outside(self, *inputs: Tensor | NDArray[Any]) -> list[RangeViolation]:
        """Where these inputs leave the range on which the plan's approximations hold, site by site (a float run)."""
        from mpcc.calibration import outside

        if self.reference is None:
            raise BundleError("without the model, inputs cannot be checked against the ranges of the plan")
        return outside(self.reference, self.plan, registry.approximations(), list(self.calls(*inputs)))

    def emulate(
        self, *inputs: Tensor | NDArray[Any], check: bool = True, device: str | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """The outputs in the engine's fixed point, without parties; longer first dimensions are cut into calls.

        Inputs are tensors or numpy arrays, as everywhere here.

        Calls are batched, in as many threads as torch has or on a `device` (cuda, cuda:1), so thousands of images cost little
        more than their arithmetic; the integers are the same everywhere. OutsideRange warnings say what of inputs and outputs
        is unlike calibration, and where inputs leave the range on which the plan holds (`check`; the latter where the float
        model is at hand).
        """
        import torch

        inputs = tensors(inputs)
        calls = list(self.calls(*inputs))
        if check and self.guard is not None:
            for line in self.guard.inputs_outside(calls):
                warnings.warn(line, OutsideRange, stacklevel=2)
        if check and self.reference is not None:
            for violation in self.outside(*inputs):
                warnings.warn(str(violation), OutsideRange, stacklevel=2)

        found = self._emulator(device).calls(*(torch.stack(column) for column in zip(*calls, strict=True)))
        if check and self.guard is not None:
            for line in self.guard.outputs_outside(list(zip(*found, strict=True))):
                warnings.warn(line, OutsideRange, stacklevel=2)
        if self.answers is not None:
            answered = map(self.answers.of, zip(*found, strict=True))
            found = [torch.stack(column) for column in zip(*answered, strict=True)]
        joined = tuple(_joined(output) for output in found)
        return joined[0] if len(joined) == 1 else joined

    @overload
    def run(
        self, *inputs: Tensor | NDArray[Any], network: str | Network | None = None, insecure_dealer: bool = False,
        engine: str = "mpcc", spu_python: str | Path | None = None, device: str = "cpu",
    ) -> Run: ...  # fmt: skip

    @overload
    def run(
        self, *inputs: Any, network: str | Network | None = None, insecure_dealer: bool = False, engine: str = "mpcc",
        spu_python: str | Path | None = None, device: str = "cpu",
    ) -> Any: ...  # fmt: skip

    def run(
        self, *inputs: Any, network: str | Network | None = None, insecure_dealer: bool = False, engine: str = "mpcc",
        spu_python: str | Path | None = None, device: str = "cpu",
    ) -> Any:  # fmt: skip
        """Run once, privately: two party processes and a dealer process on this machine; a `Run`.

        `network` emulates a link between them (default: the machine's own loopback). `engine="spu"` runs the parties of SPU
        instead, for a plan of one of its protocols; `spu_python` is the interpreter that has it (default: this one).
        `device`: where parties and dealer compute, cpu, cuda or cuda:1 (docs/gpu.md).

        CrypTensors, in both parties of a CrypTen run: CrypTensors come back, nothing is opened. Party 0 then makes the
        correlated randomness, as CrypTen does by default, and can read everything, so `insecure_dealer` must be given.
        With a dealer of its own: `mpcc.runtime.crypten.inside`.
        """
        inputs = tensors(inputs)
        if engine not in ENGINES:
            raise UsageError(f"unknown engine {engine!r}", hint=f"one of: {', '.join(ENGINES)}")
        elsewhere = engine == "spu" or any(not isinstance(value, Tensor) for value in inputs)
        if elsewhere and device != "cpu":
            raise UsageError("--device is for mpcc's own parties: neither SPU nor CrypTensors", where=f"device {device}")
        if engine == "spu":
            if network is not None:
                raise UsageError("SPU's links are not emulated", hint="leave `network` out")
            return self._run_spu(inputs, None if spu_python is None else Path(spu_python))
        if any(not isinstance(value, Tensor) for value in inputs):
            return self._run_shared(inputs, network, insecure_dealer)
        with self.session(network=network, insecure_dealer=insecure_dealer, device=device) as session:
            return session.run(*inputs)

    def _run_spu(self, inputs: Sequence[Tensor], python: Path | None) -> Run:
        from .spu.running import run_calls

        call = self.call(*inputs)
        (done,) = run_calls(self, [call], python)
        return self._answered(call, done.outputs, done.rounds, done.bytes, done.seconds, None)

    def _answered(
        self, call: Sequence[Tensor], opened: tuple[Tensor, ...], rounds: int, size: int, seconds: float, setup: Any
    ) -> Run:
        """What the client makes of the opened outputs, with warnings of what is unlike calibration."""
        found = unlike_inputs(self.guard, [call])
        found += () if self.guard is None else self.guard.outputs_outside([opened])
        for line in found:
            warnings.warn(line, OutsideRange, stacklevel=3)
        outputs = opened if self.answers is None else self.answers.of(opened)
        return Run(outputs, rounds, size, seconds, setup, found, opened)

    def _run_shared(self, inputs: Sequence[Any], network: Any, insecure_dealer: bool) -> Any:
        """A CrypTensor, or a tuple of them, from CrypTensors. The set-up is paid in the first call."""
        if not all(type(value).__module__.startswith("crypten") for value in inputs):
            kinds = ", ".join(sorted({type(value).__name__ for value in inputs}))
            raise UsageError(f"inputs of type {kinds}", hint="all of them plain tensors, or all of them CrypTensors")
        if self.local is not None:
            raise UsageError("the public part of this model runs on plain inputs", hint="run() takes tensors, not CrypTensors")
        if network is not None:
            raise UsageError("CrypTensors travel over CrypTen's own network, which is not emulated", hint="leave `network` out")
        from .crypten.inside import run_in_party

        return run_in_party(self._shared_party(insecure_dealer), *inputs)

    def _shared_party(self, insecure_dealer: bool) -> PartyState:
        from .crypten.inside import PartyState

        if self._party is None:
            same = version_of(self.plan, self.program.constants, b"")  # both processes have the weights, each its own key
            self._party = PartyState.join(self.program, same, insecure_dealer=insecure_dealer)
        return self._party

    @contextmanager
    def session(
        self, *, network: str | Network | None = None, insecure_dealer: bool = False, progress: Any = None, device: str = "cpu"
    ) -> Iterator[RunningSession]:
        """Party processes kept alive for several inferences; set-up is paid once. `device`: as in `run`."""
        from .net.transport import LinkModel
        from .session.session import Session

        link = Network.parse(network) if isinstance(network, str) else network
        model = None if link is None else LinkModel(link.rtt_seconds, link.bandwidth)
        how: dict[str, Any] = {"insecure_dealer": insecure_dealer, "progress": progress, "device": device}
        with Session(self.program, self.version, network=model, **how) as opened:
            yield RunningSession(self, opened)

    @cached_property
    def version(self) -> str:
        """Hash of the weights and the plan under `key`: the parties compare it before they start."""
        return version_of(self.plan, self.program.constants, self.key)

    def save(self, folder: str | Path, comparison: Comparison | None = None) -> Path:
        """Write a bundle; with a comparison, its report says what was changed and gained."""
        from mpcc.bundle import Contents, save
        from mpcc.show.report import report

        from .spu.running import elsewhere

        page = report(self.plan, self.program, comparison, None if self.circuit is None else elsewhere(self.circuit.circuit))
        prefix = None if self.local is None else self.local.module
        contents = Contents(self.plan, self.program, self.key, page, self.module, prefix)
        if self.circuit is not None:
            contents = replace(contents, circuit=self.circuit.circuit, circuit_weights=self.circuit.weights)
        return save(contents, folder)

    @staticmethod
    def of(bundle: Bundle) -> Executable:
        """The executable of an opened bundle."""
        circuit = bundle.circuit()
        made = None if circuit is None else Made(circuit, bundle.circuit_weights())
        return Executable(
            bundle.program, bundle.plan, model=bundle.reference, key=bundle.key, prefix=bundle.prefix(), circuit=made
        )

    @staticmethod
    def load(folder: str | Path) -> Executable:
        """The executable of the bundle in a folder. BundleError where it is damaged."""
        from mpcc.bundle import open_bundle

        return Executable.of(open_bundle(folder))

    def check(self, inputs: Sequence[Tensor]) -> None:
        """ShapeError when the inputs are not what the program was compiled for; RangeError when they do not fit the ring."""
        check_shapes(inputs, self.program_shapes)
        check_values(self.program, inputs)

    def calls(self, *inputs: Tensor | NDArray[Any]) -> Iterator[tuple[Tensor, ...]]:
        """Calls of the program: inputs cut along longer first dimensions, and what the public part makes of each."""
        for call in cut_calls(tensors(inputs), self.input_shapes):
            yield self.call(*call)

    def call(self, *inputs: Tensor | NDArray[Any]) -> tuple[Tensor, ...]:
        """The checked inputs of the program for one call of the model."""
        given = tensors(inputs)
        found = given if self.local is None else self.local(*given)
        self.check(found)
        return found


class RunningSession:
    """A session of an executable: `run` any number of times."""

    def __init__(self, executable: Executable, opened: Any) -> None:
        self.executable, self.opened = executable, opened

    @property
    def setup(self) -> Any:
        return self.opened.setup

    def run(self, *inputs: Tensor | NDArray[Any]) -> Run:
        """One private inference. What is unlike calibration is in `Run.warnings`, and an OutsideRange warning."""
        call = self.executable.call(*inputs)
        done = self.opened.run(*call)
        return self.executable._answered(call, tuple(done.outputs), done.rounds, done.bytes, done.seconds, self.opened.setup)


class StockExecutable:
    """The baseline: the same graph by CrypTen's own functions, two processes."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module

    def run(self, *inputs: Tensor) -> Run:
        """Run once. Not private against a dealer that is a party: CrypTen's TFP provider (see docs)."""
        from .crypten_stock.run import run_stock

        result = run_stock(self.module, inputs)
        return Run(tuple(result.outputs), result.rounds, result.bytes, result.seconds, None)


def _joined(output: Tensor) -> Tensor:
    """[calls, *shape] with the calls along the first dimension of the shape; one call of a single number is that number."""
    if output.dim() > 1:
        return output.flatten(0, 1)
    return output.reshape(()) if len(output) == 1 else output
