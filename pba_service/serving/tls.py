"""gRPC's server credentials from certificates that change while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from pba_service.access.certificates import Certificates
    from pba_service.access.watched import Watched


def server_credentials(certificates: Watched[Certificates]) -> grpc.ServerCredentials:
    """Credentials that take up new certificates at the next handshake; connections that are open stay open.

    Whether callers must show a certificate is decided once, by whether there are authorities for them.
    """
    given = certificates.generation

    def newer() -> grpc.ServerCertificateConfiguration | None:
        """The certificates, if there are new ones; gRPC asks at every handshake, one at a time."""
        nonlocal given
        if certificates.generation == given:
            return None
        given = certificates.generation
        return _configuration(certificates.value)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(certificates.value),
        newer,  # type: ignore[arg-type]  # its types do not know that None means no change
        require_client_authentication=certificates.value.client_ca is not None,
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.chain)], root_certificates=certificates.client_ca
    )
