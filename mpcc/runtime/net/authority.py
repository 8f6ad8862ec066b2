"""The authority that signs the certificates of server, helper, clients and dealer, and its list of those it revokes.

    authority/  authority.pem  key.pem  issued.txt  revoked.txt      kept offline: its key makes certificates of any role
    server/     authority.pem  certificate.pem  key.pem             one folder per role or client, for its machine alone

A certificate names a role; a client's may name who it is as well, so that it can be told apart and revoked.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mpcc.errors import SecurityError, UsageError
from mpcc.files import write

from .connect import ROLES
from .handshake import CLIENT, HELPER
from .identity import AUTHORITY, CERTIFICATE, KEY, REVOKED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, Name

ISSUED = "issued.txt"
"""A line per certificate: serial number, role, name or -, last day."""
AUTHORITY_DAYS = 3650
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Authority:
    """A certificate and the key that signs others. `folder`: where it is kept; None: it is forgotten after use."""

    certificate: Certificate
    key: EllipticCurvePrivateKey
    folder: Path | None = None

    @staticmethod
    def made(folder: Path | None = None) -> Authority:
        """A new authority, written into a new folder if one is given."""
        name, key = _name("mpcc authority"), _new_key()
        authority = Authority(_certificate(name, name, key, key, AUTHORITY_DAYS, authority=True), key, folder)
        if folder is not None:
            _new_folder(folder)
            write(folder / KEY, _secret(key), private=True)
            write(folder / AUTHORITY, _pem(authority.certificate), private=True)
        return authority

    @staticmethod
    def read(folder: Path) -> Authority:
        """The authority of a folder. SecurityError where it is unusable or has expired."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

        try:
            certificate = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
            key = serialization.load_pem_private_key((folder / KEY).read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise SecurityError(f"not the folder of an authority: {error}", where=str(folder)) from None
        if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise SecurityError("the key does not belong to the certificate", where=str(folder))
        if certificate.not_valid_after_utc < datetime.now(UTC):
            hint = "Make a new set for all three roles."
            raise SecurityError(f"the authority expired on {_day(certificate)}", where=str(folder), hint=hint)
        return Authority(certificate, key, folder)

    def issue(self, role: str, place: Path, days: int, name: str | None = None) -> None:
        """A new folder with the certificate of a role, readable by its owner alone."""
        if name is not None and NAME.fullmatch(name) is None:
            raise UsageError(f"invalid name {name!r}", hint="letters, digits, dot, dash and underscore, at most 64")
        if name is not None and any(row[2] == name for row in self._issued()):
            raise UsageError(f"{name!r} has a certificate already", hint="take another name: a revocation names one client")
        key = _new_key()
        certificate = _certificate(_name(role, name), self.certificate.subject, key, self.key, days)
        _new_folder(place)
        write(place / AUTHORITY, _pem(self.certificate), private=True)
        write(place / CERTIFICATE, _pem(certificate), private=True)
        write(place / KEY, _secret(key), private=True)
        if self.folder is not None:
            _append(self.folder / ISSUED, f"{certificate.serial_number:x} {role} {name or '-'} {_day(certificate)}")

    def revoke(self, which: str) -> Path:
        """Put a client's name or a serial number on the list; the list's file. UsageError where nothing fits."""
        assert self.folder is not None
        found = [row for row in self._issued() if which in (row[0], row[2]) and which != "-"]
        if not found:
            raise UsageError(f"no certificate of {which!r} was issued", hint=f"{self.folder / ISSUED} lists them")
        for serial, role, name, _ in found:
            _append(self.folder / REVOKED, f"{serial}  # {role} {name}")
        return self.folder / REVOKED

    def _issued(self) -> list[tuple[str, str, str, str]]:
        if self.folder is None or not (self.folder / ISSUED).exists():
            return []
        rows = [line.split() for line in (self.folder / ISSUED).read_text(encoding="ascii").splitlines()]
        if any(len(row) != 4 for row in rows):
            raise SecurityError("the list of certificates is damaged", where=str(self.folder / ISSUED))
        return [(serial, role, name, day) for serial, role, name, day in rows]


def make(folder: Path, days: int, authority: Authority | None = None) -> dict[str, Path]:
    """A certificate for each role; role -> its folder. Without an authority: of a new one that is forgotten."""
    signer = authority or Authority.made()
    made = {role: folder / role for role in (*ROLES, HELPER)}
    for role, place in made.items():
        signer.issue(role, place, days)
    return made


def make_client(folder: Path, name: str, days: int, authority: Authority) -> dict[str, Path]:
    """A certificate of one further client."""
    authority.issue(CLIENT, folder, days, name)
    return {CLIENT: folder}


def _new_folder(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.mkdir(mode=0o700)
    except FileExistsError:
        raise UsageError("something is there already; keys are never overwritten", where=str(place)) from None


def _append(path: Path, line: str) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "a", encoding="ascii") as file:
        file.write(line + "\n")


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _secret(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


def _pem(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def _day(certificate: Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"


def _name(role: str, name: str | None = None) -> Name:
    """The common name is the role; a client's own name is its organizational unit."""
    from cryptography import x509

    parts = [x509.NameAttribute(x509.NameOID.COMMON_NAME, role)]
    if name is not None:
        parts.append(x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, name))
    return x509.Name(parts)


def _certificate(
    subject: Name,
    issuer: Name,
    key: EllipticCurvePrivateKey,
    signer: EllipticCurvePrivateKey,
    days: int,
    *,
    authority: bool = False,
) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + min(timedelta(0), timedelta(days=days)) - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return builder.sign(signer, hashes.SHA256())
