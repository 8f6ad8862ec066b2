"""How the commands print: results go to stdout, messages and progress to stderr."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mpcc.errors import Assumed, Measured, Refitted, Renamed

if TYPE_CHECKING:
    from rich.console import Console

Tell = Callable[[str, int, int], None]
WIDTH = 120
"""Width of tables, in columns, when stdout is not a terminal."""
STAGES = {
    "capture": "reading the model",
    "rewrite": "rewriting it exactly",
    "synthesise": "making inputs from the model, as none were given",
    "calibrate": "recording what each operator sees of the inputs",
    "candidates": "fitting candidates for each operator",
    "sensitivity": "measuring what each candidate does to the outputs",
    "price": "pricing the candidates",
    "search": "searching for the best plan",
    "recipes": "trying published recipes",
    "compensate": "solving layers behind structural choices anew",
    "compile": "compiling",
    "emulate": "comparing fixed point with float",
    "write": "writing the bundle",
    "kernels": "timing this machine",
    "transport": "timing messages on this machine",
    "start": "starting the parties",
    "set-up": "opening the masked weights",
    "online": "inference, round by round",
    "inference": "inferences",
    "verify": "comparing private with plain outputs",
    "estimate": "estimating",
}
"""Stage, as the pipeline calls it -> what the user reads. One that is not here goes by its own name."""


def say(text: str) -> None:
    """A message to the user, on stderr."""
    typer.echo(text, err=True)


def emit(document: Any) -> None:
    """Print the result of --json on stdout."""
    typer.echo(json.dumps(document, indent=2))


def console() -> Console:
    """A console on stdout, as wide as the terminal, or WIDTH columns when stdout is not one."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH, file=sys.stdout)


def pasted(*words: str | Path) -> str:
    """A command that a shell takes as these words, whatever is in the names of files."""
    return shlex.join(str(word) for word in words)


@contextmanager
def progress() -> Iterator[Tell]:
    """What is being done, how far it is and how long is left, on stderr, removed at the end; silent without a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Left(ProgressColumn):
        """How long is left, where the steps so far tell."""

        def render(self, task: Any) -> Text:
            seconds = task.time_remaining
            known = bool(task.total) and seconds and not task.finished
            return Text(f"about {int(seconds) // 60}:{int(seconds) % 60:02} left" if known else "", style="cyan")

    stderr = Console(stderr=True)
    columns = (
        SpinnerColumn("line"), TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[step]}"),
        TimeElapsedColumn(), Left(),
    )  # fmt: skip
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(STAGES.get(stage, stage), total=total, step="")
            for name, task in tasks.items():
                bars.update(task, visible=name == stage)
            known = total if total > 1 else None
            step = f"{done} of {total}" if total > 1 else ""
            bars.update(tasks[stage], completed=done, total=known, step=step)

        yield tell


def quiet() -> None:
    """Keep from the user what libraries say of themselves: deprecations, optional packages that they miss, their logs.

    Messages of mpcc and errors of libraries stay. `mpcc --debug` is the way to see the rest.
    """
    logging.disable(logging.WARNING)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        for kind in (Assumed, Measured, Refitted, Renamed):
            warnings.simplefilter("default", kind)
        warnings.showwarning = _say_warning


def _say_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None
) -> None:
    """One line, without the place in mpcc's own source."""
    say(f"mpcc: {message}")
