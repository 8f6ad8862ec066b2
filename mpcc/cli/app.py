"""`mpcc`: the commands, the exit codes, and how an error is reported.

Exit codes: 0 success, 1 a check failed or a budget cannot be met, 2 invalid usage or input, 70 a bug in mpcc,
130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from mpcc.errors import MpccError

from . import (
    about,
    ask,
    benchmark,
    count,
    engine,
    gpu,
    keys,
    networks,
    optimize,
    passes,
    profile,
    protocols,
    recipes,
    run,
    serve,
    tune,
    verify,
)
from .interrupts import INTERRUPTED, MESSAGE, Ending, Interrupts
from .screen import emit, quiet, say

BUG, BAD_INPUT = 70, 2
DEBUG = "--debug"
"""May stand anywhere: before a command, or behind it where a person adds it to see more."""


class Command(TyperCommand):
    """A command whose help writes a flag as `--json`, not as `--json <bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))


class Commands(TyperGroup):
    """All commands. An error that a user can act on becomes one message on stderr and an exit code, without a traceback."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["mpcc.json"], ctx.meta["mpcc.debug"] = "--json" in args, DEBUG in args
        try:
            return super().parse_args(ctx, [one for one in args if one != DEBUG])
        except KeyboardInterrupt:
            raise _interrupted() from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MpccError as error:
            if ctx.meta["mpcc.debug"]:
                traceback.print_exc()
            report(error, as_json=ctx.meta["mpcc.json"])
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise _interrupted() from None
        except BrokenPipeError:
            raise
        except OSError as error:
            report(MpccError(error.strerror or str(error), where=error.filename), as_json=ctx.meta["mpcc.json"])
            raise typer.Exit(BAD_INPUT) from None
        except Exception as bug:
            if isinstance(bug, typer.Exit | typer.Abort) or hasattr(bug, "format_message"):
                raise  # typer's own: the end of --help, invalid usage
            traceback.print_exc()
            say(f"mpcc: internal error ({type(bug).__name__}). This is a bug in mpcc; please report it with the traceback above.")
            raise typer.Exit(BUG) from None


def _interrupted() -> typer.Exit:
    say(MESSAGE)
    return typer.Exit(INTERRUPTED)


def _plain_flags(params: list[Any]) -> list[Any]:
    for one in params:
        if isinstance(one, TyperOption) and one.is_flag and one.metavar is None:
            one.metavar = ""
    return params


def report(error: MpccError, *, as_json: bool) -> None:
    """Print an error on stderr: what is wrong, where, and what to do next. With --json, also as JSON on stdout."""
    say(f"mpcc: {error}")
    if as_json:
        emit({"error": {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}})


app = typer.Typer(
    cls=Commands,
    name="mpcc",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: mpcc optimize model.onnx --calibration images.npy && mpcc run model.mpcc --input image.npy",
)
COMMANDS = (
    optimize, tune, run, serve, ask, profile, count, verify, passes, recipes, protocols, networks, benchmark, gpu, keys, about,
    engine,
)  # fmt: skip
for command in COMMANDS:
    command.register(app)
for registered in app.registered_commands:
    registered.cls = Command


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo("\n".join([f"mpcc {version('mpcc')}", *about.versions()]))
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show warnings and logs of libraries, and the traceback of an error. May stand last.")
    ] = False,
) -> None:
    """A compiler for private inference of Vision Transformers."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # `module:function` finds the user's own code; last, so that it hides nothing
        ctx.call_on_close(lambda: sys.path.remove(here))


def main() -> NoReturn:
    """What the console script runs, when everything that a command line needs is imported."""
    ending = Ending()
    ending.register()
    Interrupts().listen()
    if DEBUG not in sys.argv[1:]:
        quiet()
    try:
        app()
    except SystemExit as end:
        ending.interrupted = end.code == INTERRUPTED
        raise
    sys.exit(0)
