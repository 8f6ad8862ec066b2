"""This machine's speed: as it was measured, or measured now, by a process of its own, while other work goes on.

    with speed_of(None) as speed:           # starts measuring where nothing that holds is kept (`Machine.kept`)
        prepared = prepare(model)           # takes a while anyway
        machine = speed()                   # waits; a Machine, or None for the reference

What was measured is kept in the user's cache. Two commands that start together measure once: the second waits for the
first. A measurement that fails or takes too long is reported, and costs no command its result.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from mpcc.cost.machine import REFERENCE, THIS, Machine
from mpcc.errors import Measured, UsageError

PATIENCE = 30.0
"""Seconds after which a measurement is given up: six times what it takes on an idle machine, twice at a load of seven
processes per core."""

COMMAND = (sys.executable, "-P", "-m", __name__)
Speed = Callable[[], Machine | None]


@contextmanager
def speed_of(choice: str | Path | Machine | None) -> Iterator[Speed]:
    """The machine that `--machine` names, when it is needed: "reference" (None), "this", or the file of another machine.

    By default this machine, or the reference where this one cannot be measured; a Measured warning says what was done.
    UsageError for a file that is none, and for "this" where it cannot be measured.
    """
    if isinstance(choice, Machine):
        yield lambda: choice
    elif choice not in (None, THIS):
        named = Machine.named(choice)
        yield lambda: named
    elif (kept := Machine.kept()) is not None:
        yield lambda: kept
    else:
        before = Machine.read()
        why = "it was not measured before" if before is None else before.outdated
        with _measuring() as finished:
            yield cache(lambda: _measured(finished, why, required=choice == THIS))


def check(choice: str | Path | Machine | None) -> None:
    """UsageError for a machine that does not exist, before work is done for it."""
    if not isinstance(choice, Machine) and choice not in (None, THIS):
        Machine.named(choice)


def _measured(finished: Callable[[], str], why: str, *, required: bool) -> Machine | None:
    try:
        found = Machine.parse(finished(), "this machine")
    except (OSError, subprocess.SubprocessError) as error:
        late = isinstance(error, subprocess.TimeoutExpired)
        found, failure = None, f"it took longer than {PATIENCE:g} s" if late else str(error)
    else:
        failure = "the measurement failed: try `mpcc benchmark`"
    if found is not None:
        place = f"; kept in {Machine.file()}" if Machine.kept() is not None else ""
        text = f"measured the speed of this machine ({why}){place}"
        warnings.warn(text, Measured, stacklevel=2)
        return found
    if required:
        raise UsageError(f"this machine could not be measured ({failure})", where="--machine", hint=f"Or: {REFERENCE}.")
    text = f"this machine could not be measured ({failure}); predicted seconds are those of the reference machine"
    warnings.warn(text, Measured, stacklevel=2)
    return None


@contextmanager
def _measuring() -> Iterator[Callable[[], str]]:
    """Runs `main` in another process, which does not outlive this block; what it prints, when it has ended."""
    from .benchmark import environment

    try:
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment(), text=True, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        failed = error

        def failing() -> str:
            raise failed

        yield failing
        return
    end = time.monotonic() + PATIENCE
    try:
        yield lambda: process.communicate(timeout=max(0.1, end - time.monotonic()))[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with its own other end
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> None:
    """Measure, unless another process just has; keep the result if the cache can be written, and print it."""
    from .benchmark import QUICK, measure

    with _alone():
        found = Machine.kept()
        if found is None:
            before = Machine.read()
            found = replace(measure(repeats=QUICK), again=before is not None and before.stale)
            try:
                found.write()
            except OSError:
                pass  # the command that asked has it all the same
    print(json.dumps(found.document()))


@contextmanager
def _alone() -> Iterator[None]:
    """One measurement at a time: two would slow each other down."""
    file = Machine.file().with_suffix(".lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = file.open("w")
    except OSError:
        yield
        return
    with opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield


if __name__ == "__main__":
    main()
