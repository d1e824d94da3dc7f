"""A certificate by which the parts of one server know each other, and nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_VALID = timedelta(days=3650)
_CLOCKS = timedelta(days=1)  # one that is set back must not end it


def write_certificate(certificate: Path, key: Path, name: str) -> None:
    """Write a new certificate that is its own authority, and its key, which only the owner can read.

    Args:
        certificate: where it goes, as PEM; an earlier one is replaced.
        key: where its private key goes, as PEM.
        name: the common name in it.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(issuer_name=named, subject_name=named, public_key=private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(key, pem)


def write_private(file: Path, data: bytes) -> None:
    """Write a file that only its owner can read at any moment."""
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(data)
