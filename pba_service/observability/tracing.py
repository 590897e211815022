"""Whether and where traces are sent: by the variables of OpenTelemetry, and not at all unless they name a collector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pba_service.observability.spans import Tracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Either turns tracing on."""

_log = structlog.get_logger(__name__)


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment names a collector of traces and does not turn them off."""
    return (
        any(environment.get(name, "").strip() for name in ENDPOINTS)
        and environment.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() in {"", "otlp"}
    )


def open_tracing(environment: Mapping[str, str], version: str) -> Tracing | None:
    """What makes spans; None where tracing is not wanted, or cannot be: then a warning says why.

    The exporter, the sampler and the batches read their own variables (`OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`, ...).
    Nothing is sent from the threads that serve.
    """
    if not is_wanted(environment):
        return None
    protocol = environment.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    )
    if protocol.strip().lower() not in {"", "grpc"}:
        _log.warning("tracing_unavailable", why=f"only OTLP over gRPC is spoken, not {protocol}")
        return None
    try:
        # an optional extra, and a quarter of a second that nobody else shall wait for
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        from pba_service.observability.spans import Tracing  # noqa: PLC0415
    except ImportError as missing:
        _log.warning("tracing_unavailable", why=f"{missing.name} is not installed: install pba[tracing]")
        return None
    try:
        resource = Resource.create({"service.version": version})
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):  # no variable says it
            resource = resource.merge(Resource({SERVICE_NAME: "pba"}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except Exception as error:  # noqa: BLE001 - of a variable that they cannot read; they have no common base
        _log.warning("tracing_unavailable", why=str(error))
        return None
    _log.info("tracing_on")
    return Tracing(provider, version)
