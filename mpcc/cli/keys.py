"""mpcc keys: certificates with which server, client and dealer know each other over TLS.

    keys/server/  authority.pem  certificate.pem  key.pem        one folder a role, for that role's machine alone
    keys/client/  ...
    keys/dealer/  ...

The authority signs the three certificates and is then forgotten: nobody can add a fourth.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .screen import emit

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, Name

EPILOG = "Example: mpcc keys keys      (then give each party its own folder: keys/server, keys/client, keys/dealer)"
AUTHORITY, CERTIFICATE, KEY = "authority.pem", "certificate.pem", "key.pem"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("keys", epilog=EPILOG)(keys)


def keys(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the three sets of files.")],
    days: Annotated[int, typer.Option(metavar="N", min=1, help="How long the certificates are good.")] = 365,
    as_json: options.AsJson = False,
) -> None:
    """Make a certificate for each of server, client and dealer."""
    from mpcc.errors import UsageError

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("something is there already; keys are never overwritten", where=str(folder))
    made = make(folder, days)
    if as_json:
        emit({role: str(place) for role, place in made.items()})
        return
    for role, place in made.items():
        typer.echo(f"{role}: {place}   (give it to the {role}'s machine alone)")


def make(folder: Path, days: int) -> dict[str, Path]:
    """Role -> its folder. Private keys are readable by the owner of the file alone."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from mpcc.files import write
    from mpcc.runtime.net.handshake import CLIENT, DEALER, SERVER

    def pem(certificate: Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)

    issuer, signer = _name("mpcc authority"), ec.generate_private_key(ec.SECP256R1())
    authority = pem(_certificate(issuer, issuer, signer, signer, days, authority=True))
    made: dict[str, Path] = {}
    for role in (SERVER, CLIENT, DEALER):
        place = made[role] = folder / role
        place.mkdir(parents=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        write(place / AUTHORITY, authority)
        write(place / CERTIFICATE, pem(_certificate(_name(role), issuer, key, signer, days)))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write(place / KEY, secret, private=True)
    return made


def _name(text: str) -> Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


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
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return builder.sign(signer, hashes.SHA256())
