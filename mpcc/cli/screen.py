"""How the commands print: results go to stdout, messages and progress to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

Tell = Callable[[str, int, int], None]
WIDTH = 120
"""Width of tables, in columns, when stdout is not a terminal."""


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


@contextmanager
def progress() -> Iterator[Tell]:
    """One progress bar per stage on stderr, removed at the end; silent when stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    stderr = Console(stderr=True)
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield tell
