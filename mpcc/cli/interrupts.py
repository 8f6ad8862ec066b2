"""Ctrl-C and SIGTERM: a KeyboardInterrupt wherever they come, so that everything that was begun is cleaned up.

While modules are imported it waits: C code that imports (torch's, numpy's) makes another error of a KeyboardInterrupt, or
drops it and goes on with half a module. And what was interrupted ends without the interpreter being taken down (`Ending`).
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from types import FrameType

INTERRUPTED = 130
MESSAGE = "interrupted; no partial output was written"
AGAIN_SECONDS = 1.0
"""A second Ctrl-C within it is of the same impatience, and would only break off what the first one made clean up."""
LATER_SECONDS = 0.05
"""Until it is looked again whether modules are still being imported."""
MOST_SECONDS = 10.0
"""The import of torch took a cold disk a few seconds; what takes longer is a program of the user's that runs at import."""
IMPORTS = "<frozen importlib._bootstrap>"


@dataclass
class Interrupts:
    """The handler of both signals, and of the alarm by which it asks to be called again.

    `came`: when the last signal did. `waits`: for modules that are being imported.
    """

    came: float = -math.inf
    waits: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number != signal.SIGALRM:
            if now - self.came < AGAIN_SECONDS:
                return
            self.came, self.waits = now, not self.waits  # the second one in an import that does not end waits no more
        if self.waits and _imports(frame) and now - self.came < MOST_SECONDS:
            signal.setitimer(signal.ITIMER_REAL, LATER_SECONDS)
            return
        self.waits = False
        raise KeyboardInterrupt

    def listen(self) -> None:
        """Handle both from now on, but Ctrl-C where whoever started this process has it ignored, as a shell does behind `&`."""
        signal.signal(signal.SIGTERM, self)
        signal.signal(signal.SIGALRM, self)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self)


@dataclass
class Ending:
    """The last thing that runs in a process. After an interruption it ends it at once, with what was printed flushed.

    Everything is cleaned up by then: with-blocks are left, threads that count are joined, and functions of `atexit` have run, as
    this one is registered first. What would follow is the end of the interpreter and of C++'s globals, and to take these down
    under threads of torch, OpenMP or onnxruntime, that were interrupted in the middle of something, aborts now and then.
    """

    interrupted: bool = False

    def register(self) -> None:
        """To be called before anything else registers a function of `atexit`: they run in the opposite order."""
        atexit.register(self)

    def __call__(self) -> None:
        if not self.interrupted:
            return
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # a pipe that nobody reads, or a stream that was closed
                continue
        os._exit(INTERRUPTED)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported, however far down."""
    while frame is not None and frame.f_code.co_filename != IMPORTS:
        frame = frame.f_back
    return frame is not None
