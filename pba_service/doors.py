"""Who is let in, and how: built from the settings, for gRPC and for metrics, and kept up to date with the files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from pba_service.access.authenticator import Authenticator, Credential, UnidentifiedError
from pba_service.access.certificates import read_certificates
from pba_service.access.directory import read_directory
from pba_service.access.tokens import read_verifier
from pba_service.access.watched import FileRefusedError, Watched, poll_all
from pba_service.observability.http import server_context
from pba_service.serving.gate import Allowance, Gate
from pba_service.settings_access import is_loopback

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from pba_service.access.certificates import Certificates
    from pba_service.access.directory import Directory
    from pba_service.access.tokens import TokenVerifier
    from pba_service.observability.access import AccessMetrics
    from pba_service.observability.http import MetricsServer
    from pba_service.serving.gate import LinkBound, RegionsOf
    from pba_service.settings import Settings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Doors:
    """What stands between callers and the service.

    Attributes:
        settings: From which it was built.
        metrics: Told of denials and of files.
        tls: The service's certificates; None: plain text.
        directory: The callers' file, if there is one.
        verifier: Proves signed tokens, if any are taken.
        authenticator: Identifies callers; None: nobody is asked who they are.
    """

    settings: Settings
    metrics: AccessMetrics
    tls: Watched[Certificates] | None
    directory: Watched[Directory] | None
    verifier: Watched[TokenVerifier] | None
    authenticator: Authenticator | None

    def gate(self, regions: RegionsOf, link_bound: LinkBound | None = None) -> Gate | None:
        """The gate of the gRPC server; None where everybody may do everything, as much as they like."""
        settings = self.settings
        allowance = Allowance(settings.caller_calls, settings.caller_samples, settings.caller_streams)
        if self.authenticator is None and allowance == Allowance():
            return None
        return Gate(self.authenticator, self.metrics, allowance=allowance, regions=regions, link_bound=link_bound)

    def metrics_context(self) -> ssl.SSLContext | None:
        """TLS of the metrics port. Raises `FileRefusedError`."""
        settings = self.settings
        if settings.metrics_open or settings.tls_cert is None or settings.tls_key is None:
            return None
        client_ca = str(settings.tls_client_ca) if settings.tls_client_ca else None
        try:
            return server_context(str(settings.tls_cert), str(settings.tls_key), client_ca)
        except OSError as error:
            raise FileRefusedError(f"{settings.tls_cert}: {error.strerror or error}") from None

    @property
    def shows_console(self) -> bool:
        """Not where metrics are open to everybody though callers are known: the page's data tell more than metrics."""
        return self.authenticator is None or not self.settings.metrics_open

    def admits_to_metrics(self, token: str | None, names: tuple[str, ...]) -> bool:
        """Whether somebody may read metrics, which tell of every link."""
        if self.authenticator is None or self.settings.metrics_open:
            return True
        try:
            return self.authenticator.identify(Credential(token, names)).reads_everything
        except UnidentifiedError:
            return False

    async def watch(self, gate: Gate | None, metrics_server: MetricsServer | None) -> None:
        """Takes up changed files until cancelled."""

        def changed() -> None:
            if gate is not None:
                gate.recheck()
            if self.tls is not None:
                self.metrics.certificate_expires(self.tls.value.expires_at_s)
            if metrics_server is None:
                return
            try:
                context = self.metrics_context()
            except FileRefusedError as error:
                _log.error("file_refused", what="metrics", reason=str(error))
                return
            if context is not None:
                metrics_server.use(context)

        await poll_all(self._watched(), changed)

    def _watched(self) -> Sequence[Watched[object]]:
        return [one for one in (self.tls, self.directory, self.verifier) if one is not None]  # type: ignore[misc]  # what they hold is not looked at

    def warn(self) -> None:
        """Says at every start what is open that could be closed."""
        settings = self.settings
        for what, host, guarded in (
            ("calls", settings.grpc_host, bool(self.tls and self.authenticator)),
            ("metrics", settings.metrics_host, bool(self.tls and self.authenticator) and not settings.metrics_open),
        ):
            if not guarded and not is_loopback(host):
                _log.warning(
                    "insecure",
                    what=what,
                    host=host,
                    encrypted=self.tls is not None and not (what == "metrics" and settings.metrics_open),
                    callers_known=self.authenticator is not None and not (what == "metrics" and settings.metrics_open),
                )


def open_doors(settings: Settings, metrics: AccessMetrics) -> Doors:
    """Reads the files that the settings name. Raises `FileRefusedError` for the first that cannot be used."""
    tls = directory = verifier = None
    if settings.tls_cert and settings.tls_key:
        cert, key, client_ca = settings.tls_cert, settings.tls_key, settings.tls_client_ca
        files = [cert, key, *([client_ca] if client_ca else [])]
        tls = Watched("certificates", files, partial(read_certificates, cert, key, client_ca), metrics.reloaded)
        metrics.certificate_expires(tls.value.expires_at_s)
    if settings.callers:
        directory = Watched("callers", [settings.callers], partial(read_directory, settings.callers), metrics.reloaded)
    if settings.jwks and settings.jwt_issuer and settings.jwt_audience:
        load = partial(read_verifier, settings.jwks, settings.jwt_issuer, settings.jwt_audience, time.time)
        verifier = Watched("jwks", [settings.jwks], load, metrics.reloaded)
    authenticator = Authenticator(directory=directory, verifier=verifier) if directory or verifier else None
    return Doors(settings, metrics, tls, directory, verifier, authenticator)
