"""The service's certificate and key, and whom it trusts: read, checked, and handed to whoever listens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pba_service.access.watched import FileRefusedError, read_bytes

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """All in PEM.

    Attributes:
        chain: The service's certificate, then those that lead to its authority.
        key: Its private key.
        client_ca: Authorities whose certificates callers must show; None: callers show none.
        expires_at_s: When the service's own certificate ends, in seconds since the epoch.
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    expires_at_s: float


def read_certificates(
    certificate: Path, key: Path, client_ca: Path | None = None, now: datetime | None = None
) -> Certificates:
    """Reads and checks the files.

    Raises:
        FileRefusedError: One cannot be read, its permissions are too wide, it is broken, the certificate has expired,
            or the two do not belong together, as in the middle of a change.
    """
    chain_pem, key_pem = read_bytes(certificate), read_bytes(key, secret=True)
    own = _certificates(certificate, chain_pem)[0]
    try:
        public = load_pem_private_key(key_pem, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FileRefusedError(f"{key}: is no private key in PEM without a password") from None
    shape = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if public.public_bytes(*shape) != own.public_key().public_bytes(*shape):
        raise FileRefusedError(f"{key}: is not the key of the certificate {certificate}")
    if own.not_valid_after_utc <= (now or datetime.now(UTC)):
        raise FileRefusedError(f"{certificate}: has expired at {own.not_valid_after_utc.isoformat()}")
    ca_pem = None
    if client_ca is not None:
        ca_pem = read_bytes(client_ca)
        _certificates(client_ca, ca_pem)
    return Certificates(chain_pem, key_pem, ca_pem, own.not_valid_after_utc.timestamp())


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise FileRefusedError(f"{path}: is no certificate in PEM") from None
