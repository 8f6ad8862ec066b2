"""Every error that mpcc raises on purpose: what went wrong, where, and what to do next.

The command line prints one of these without a traceback and exits with `exit_code`; anything else that
escapes is a bug in mpcc.
"""

from __future__ import annotations


class MpccError(Exception):
    """Base of all errors that a user can act on.

    `what` says what is wrong, `where` the file, node or layer, `hint` what to do next.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what = _printable(what)
        self.where = where and _printable(where)
        self.hint = hint and _printable(hint)
        super().__init__(self._text())

    def _text(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.hint is None else f"{text}\n  {self.hint}"


# Characters that steer a terminal, or turn the direction of what follows; line breaks and tabs stay.
_STEERING = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
LONGEST = 10_000


def _printable(text: str) -> str:
    """Names in messages come from files and peers: nothing in them reaches the terminal as a command."""
    return text.translate(_STEERING)[:LONGEST]


class UsageError(MpccError):
    """An argument or option that means nothing (a budget of 2parsecs, an unknown protocol)."""


class ModelFileError(MpccError):
    """A model file that cannot be read: missing, truncated, not ONNX, external data absent."""


class CaptureError(MpccError):
    """A model that could not be captured as a graph (no example input, data-dependent control flow)."""


class UnsupportedOperator(MpccError):
    """Operators that a level or an engine does not know; lists all of them at once."""


class ShapeError(MpccError):
    """A dynamic shape where a static one is needed, or an input of the wrong shape or type."""


class InvalidGraph(MpccError):
    """A graph that breaks the rules of its level (the verifier's verdict: a bug or a hand-edited file)."""


class PlanError(MpccError):
    """A plan that does not fit the model: unknown site, unknown approximation, wrong option."""


class RangeError(MpccError):
    """A value that leaves its calibrated range, the ring, or a polynomial's domain."""


class PrecisionError(RangeError):
    """A program whose fixed-point arithmetic is too coarse for its model: what it computes is not to be trusted."""

    exit_code = 1


class OutsideRange(UserWarning):
    """Inputs leave the range on which a plan holds: what was computed for them is not to be trusted."""


class MissingCost(MpccError):
    """A protocol that has no price for a primitive: names protocol, primitive and site."""


class BudgetError(MpccError):
    """A budget that cannot be met; says what can be met at each level."""

    exit_code = 1


class CheckFailed(MpccError):
    """A check asked for by the user did not hold (op counts rose, private and plain disagree)."""

    exit_code = 1


class BundleError(MpccError):
    """A bundle that is incomplete, edited, or of another version."""


class MissingDependency(MpccError):
    """An optional package is not installed; says which command installs it."""


class SecurityError(MpccError):
    """Something that would leak: a mask used twice, replayed material, an unknown peer, two programs."""


class PartyError(MpccError):
    """A party, the dealer or the link between them failed while a program ran: says who and where."""
