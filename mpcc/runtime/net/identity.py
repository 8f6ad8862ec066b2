"""The files with which a role proves who it is over TLS, and the certificates that are not accepted any more."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mpcc.errors import SecurityError

AUTHORITY, CERTIFICATE, KEY, REVOKED = "authority.pem", "certificate.pem", "key.pem", "revoked.txt"
KEYS = "All certificates must come from one authority: make a set with `mpcc keys`."
AGAIN = "Make a new certificate: mpcc keys NEW-FOLDER --authority FOLDER, or a new set: mpcc keys NEW-FOLDER."
MOST_REVOKED_BYTES = 1 << 20


@dataclass(frozen=True)
class Identity:
    """Files (PEM) with which a role proves itself: its certificate, its key, and the one authority that it trusts.

    `revoked`: serial numbers in hexadecimal, one per line, of certificates that this role refuses. No file: none.
    """

    certificate: Path
    key: Path
    authority: Path
    revoked: Path | None = None

    @staticmethod
    def of(folder: Path, role: str) -> Identity:
        """The files that `mpcc keys` makes: `folder` is a role's own, or the one that holds a folder per role."""
        place = folder / role if (folder / role).is_dir() else folder
        return Identity(place / CERTIFICATE, place / KEY, place / AUTHORITY, place / REVOKED)

    def context(self, *, server: bool) -> ssl.SSLContext:
        """TLS 1.3 with both sides authenticated. SecurityError where the files are unusable or have expired."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate names a role, not a host: see TlsWire
        context.verify_mode = ssl.CERT_REQUIRED
        where = str(self.certificate.parent)
        try:
            context.load_verify_locations(self.authority)
            context.load_cert_chain(self.certificate, self.key)
            expires = _expires(self.certificate)
        except (OSError, ValueError) as error:
            raise SecurityError(f"the certificate files cannot be used: {error}", where=where, hint=KEYS) from None
        if expires < datetime.now(UTC):
            raise SecurityError(f"our certificate expired on {expires:%Y-%m-%d %H:%M} UTC", where=where, hint=AGAIN)
        return context

    def refuses(self, serial: int | None) -> bool:
        """Whether a certificate is on the list, which is read anew each time. SecurityError where it is unreadable."""
        if self.revoked is None or serial is None:
            return False
        try:
            with self.revoked.open(encoding="ascii") as file:
                text = file.read(MOST_REVOKED_BYTES + 1)
            if len(text) > MOST_REVOKED_BYTES:
                raise ValueError(f"more than {MOST_REVOKED_BYTES} bytes")
            lines = [line.partition("#")[0].strip() for line in text.splitlines()]
            return serial in {int(line.replace(":", ""), 16) for line in lines if line}
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            hint = "One serial number in hexadecimal per line; text after # is a comment."
            what = f"the list of revoked certificates is unreadable: {error}"
            raise SecurityError(what, where=str(self.revoked), hint=hint) from None


def _expires(certificate: Path) -> datetime:
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
