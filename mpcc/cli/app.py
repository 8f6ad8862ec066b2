"""`mpcc`: the commands, and what an error looks like.

Exit codes: 0 done, 1 a check failed or a budget cannot be met, 2 wrong use or bad input, 70 a bug in mpcc,
130 stopped.
"""

from __future__ import annotations

import signal
import sys
import traceback
import warnings
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from mpcc.errors import MpccError, Renamed

from . import calibrate, count, keys, networks, optimize, passes, profile, protocols, run, tune, verify
from .screen import emit, say

STOPPED, BUG, BAD_INPUT = 130, 70, 2


class Commands(TyperGroup):
    """Turns what a user can act on into one message on stderr and an exit code, without a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["mpcc.json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MpccError as error:
            report(error, as_json=ctx.meta["mpcc.json"])
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("stopped; nothing was left half-written")
            raise typer.Exit(STOPPED) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            report(MpccError(error.strerror or str(error), where=error.filename), as_json=ctx.meta["mpcc.json"])
            raise typer.Exit(BAD_INPUT) from None
        except Exception as bug:
            if isinstance(bug, typer.Exit | typer.Abort) or hasattr(bug, "format_message"):
                raise  # typer's own: the end of --help, wrong use
            traceback.print_exc()
            say(f"this is a bug in mpcc ({type(bug).__name__}): please report it with the lines above")
            raise typer.Exit(BUG) from None


def report(error: MpccError, *, as_json: bool) -> None:
    """What, where and what to do, on stderr; as JSON on stdout as well when that was asked for."""
    say(f"mpcc: {error}")
    if as_json:
        emit({"error": {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}})


app = typer.Typer(
    cls=Commands,
    name="mpcc",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="A compiler for private inference of Vision Transformers.",
    epilog="Start with: mpcc optimize model.onnx --calibration images.npy && mpcc run model.mpcc --input image.npy",
)
for command in (optimize, tune, run, profile, count, verify, passes, protocols, networks, calibrate, keys):
    command.register(app)


def main() -> NoReturn:
    """The console script."""
    signal.signal(signal.SIGTERM, _stop)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries tell their developers
        warnings.simplefilter("default", Renamed)
        warnings.showwarning = _say_warning
    app()
    sys.exit(0)


def _say_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None
) -> None:
    """One line, without the place in mpcc's own source."""
    say(f"mpcc: {message}")


def _stop(number: int, frame: FrameType | None) -> None:
    """A polite kill cleans up as Ctrl-C does."""
    raise KeyboardInterrupt
