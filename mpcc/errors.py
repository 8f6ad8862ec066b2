"""Every error that mpcc raises on purpose: what is wrong, where, and what to do next.

The command line prints these without a traceback and exits with `exit_code`. Any other exception is a bug in mpcc.
"""

from __future__ import annotations


class MpccError(Exception):
    """Base class of all errors that a user can act on.

    `what`: what is wrong. `where`: the file, option, node or layer. `hint`: what to do next.
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
    """An invalid argument or option (a budget of "2parsecs", an unknown protocol)."""


class ModelFileError(MpccError):
    """A model file that cannot be read: missing, truncated, not ONNX, external data absent."""


class CaptureError(MpccError):
    """A model that cannot be captured as a graph (no example input, data-dependent control flow)."""


class UnsupportedOperator(MpccError):
    """Operators that a graph level or an engine does not support; lists all of them at once."""


class ShapeError(MpccError):
    """A dynamic shape where a static one is required, or an input of the wrong shape or dtype."""


class InvalidGraph(MpccError):
    """A graph that violates the invariants of its level: a bug in a pass, or a file edited by hand."""


class PlanError(MpccError):
    """A plan that does not fit the model: unknown site, unknown approximation, wrong option."""


class RangeError(MpccError):
    """A value outside its calibrated range, the ring, or the domain of a polynomial."""


class PrecisionError(RangeError):
    """A program whose fixed-point precision is too low for its model, so that its outputs cannot be trusted.

    `site` is the first one at which values are off, where there is such a site.
    """

    exit_code = 1

    def __init__(self, what: str, *, site: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where=None if site is None else f"site {site}", hint=hint)
        self.site = site


class OutsideRange(UserWarning):
    """Inputs outside the valid ranges of a plan, so that the outputs computed for them cannot be trusted."""


class Assumed(UserWarning):
    """What was taken for granted of inputs that do not say it themselves: how pictures are cut and normalised."""


class Measured(UserWarning):
    """This machine was measured, to predict seconds, or could not be."""


class Refitted(UserWarning):
    """A choice of a given plan does not hold what its site sees, and was fitted again or replaced; says which, and why."""


class ThinNoise(UserWarning):
    """The noise on outputs hides roundings in fewer answers than were asked for, within the share of the outputs' spread that it
    may have (`Settings.flood`, `--noise`); says which share would do."""


class Renamed(DeprecationWarning):
    """A former name was used, which still works; says what it is called now."""


class MissingCost(MpccError):
    """A protocol without a price for a primitive; names protocol, primitive and site."""


class BudgetError(MpccError):
    """A budget that cannot be met; says what is reachable at each level."""

    exit_code = 1


class CheckFailed(MpccError):
    """A check requested by the user failed (op counts increased, private and plain outputs differ)."""

    exit_code = 1


class BundleError(MpccError):
    """A bundle that is incomplete, modified, or of another format version."""


class MissingDependency(MpccError):
    """An optional package that is not installed; says which command installs it."""


class SecurityError(MpccError):
    """Something that would leak secrets: a mask used twice, replayed material, an unknown peer, differing programs."""


class PartyError(MpccError):
    """A party, the dealer or a connection failed while a program ran; says which one and where."""
