"""What Prometheus is told of who was let in, and of the files that say who may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

DENIALS = ("identity", "expired", "role", "link", "node")
"""Reasons of a denial: nobody known, known no longer, no role for the call, no right to a link, another's name."""


class AccessMetrics:
    """Denials, limits, and files that were read anew."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metrics."""
        self._denied = Counter("dwcp_pba_denied", "Calls denied, by the reason.", ("reason",), registry=registry)
        for reason in DENIALS:
            self._denied.labels(reason)
        self._limited = Counter(
            "dwcp_pba_rate_limited", "Calls refused because their caller asks too much.", ("what",), registry=registry
        )
        self._reloads = Counter(
            "dwcp_pba_files_reloaded",
            "Files of certificates, callers and keys that changed, by whether the new ones are used.",
            ("file", "outcome"),
            registry=registry,
        )
        self._expires_s = Gauge(
            "dwcp_pba_certificate_expires_timestamp_seconds",
            "When the service's own certificate ends; 0: it has none.",
            registry=registry,
        )

    def denied(self, reason: str) -> None:
        """A call was denied; one of `DENIALS`."""
        self._denied.labels(reason).inc()

    def limited(self, what: str) -> None:
        """A call was refused for the sake of the others."""
        self._limited.labels(what).inc()

    def reloaded(self, file: str, good: bool) -> None:  # noqa: FBT001 - a callback of one name and one truth
        """A file changed."""
        self._reloads.labels(file, "used" if good else "refused").inc()

    def certificate_expires(self, at_s: float) -> None:
        """When the certificate in use ends."""
        self._expires_s.set(at_s)
