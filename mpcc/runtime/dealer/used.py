"""Which material this user has used on this machine: one empty file per session and party, never removed.

The place is the home directory of the user database, whatever environment variables say: a process that is started with
another $HOME or $XDG_STATE_HOME finds the same notes.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from mpcc.errors import SecurityError

PLACE = Path(".local") / "state" / "mpcc" / "used"


def home() -> Path:
    """The user's home directory. SecurityError where the user database names none."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise SecurityError(
            f"user {os.getuid()} has no home directory, so the use of material cannot be noted",
            where="user database",
            hint="Run as a user that the system knows, or use a dealer process.",
        ) from None


def note(session: str, party: int) -> Path:
    """Where the use of a party's material is noted."""
    return home() / PLACE / f"{session}.{party}"


def was_used(session: str, party: int) -> bool:
    return os.path.lexists(note(session, party))


def mark(session: str, party: int) -> bool:
    """Note the use, on disk for good; False if it was noted already. No two processes both get True. SecurityError."""
    path = note(session, party)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unnoted(path, error) from None
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fsync(number)
        finally:
            os.close(number)
        sync_folder(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise _unnoted(path, error) from None
    return True


def sync_folder(folder: Path) -> None:
    """The entries of a folder are on disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _unnoted(path: Path, error: OSError) -> SecurityError:
    return SecurityError(
        f"the use of this material cannot be noted ({error.strerror})",
        where=str(path),
        hint="No mask is used before that: make room or give write permission there.",
    )
