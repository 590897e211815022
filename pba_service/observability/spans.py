"""Spans by OpenTelemetry: what a call waited for, told to whoever collects traces."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import structlog
from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

Origin: TypeAlias = SpanContext
"""Names a span from which something was asked."""

MAX_LINKS = 16
"""Callers that one batch's span names besides its parent; a batch may serve thousands."""

_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""What OpenTelemetry's conventions call an error of a server; the other statuses are errors of callers."""

_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans. Work that no traced call asked for makes none: background rounds would fill the collector."""

    def __init__(self, provider: TracerProvider, version: str) -> None:
        """Spans go where the provider sends them; `version` is the service's."""
        self._provider = provider
        self._tracer = provider.get_tracer("pba_service", version)

    def close(self) -> None:
        """Sends what waits, for as long as the exporter's own deadline allows, and ends."""
        self._provider.shutdown()

    @contextmanager
    def call(self, path: str, metadata: Mapping[str, str]) -> Iterator[Span]:
        """The span of a call from outside, within the trace that its metadata name (W3C `traceparent`)."""
        service, _, method = path.strip("/").rpartition("/")
        parent = _PROPAGATOR.extract({key: metadata[key] for key in _PROPAGATOR.fields if key in metadata})
        named = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        with (
            self._tracer.start_as_current_span(
                path.strip("/"), parent, SpanKind.SERVER, named, record_exception=False, set_status_on_exception=False
            ) as span,
            _told_in_logs(span),
        ):
            yield span

    def ended(self, span: Span, code: str) -> None:
        """A call ended with a gRPC status."""
        span.set_attribute("rpc.grpc.status_code", code)
        if code in _FAULTS:
            span.set_status(Status(StatusCode.ERROR, code))

    @contextmanager
    def step(self, name: str, **attributes: str | int) -> Iterator[None]:
        """A span within the one under way; none where nothing is traced."""
        if not trace.get_current_span().get_span_context().is_valid:
            yield
            return
        with self._tracer.start_as_current_span(
            name, kind=SpanKind.INTERNAL, attributes=attributes, record_exception=False
        ):
            yield

    @contextmanager
    def round_trip(self, operation: str) -> Iterator[None]:
        """One of the store's."""
        if not trace.get_current_span().get_span_context().is_valid:
            yield
            return
        named = {"db.system.name": "redis", "db.operation.name": operation}
        with self._tracer.start_as_current_span(
            f"redis {operation}", kind=SpanKind.CLIENT, attributes=named, record_exception=False
        ):
            yield

    def here(self) -> Origin | None:
        """The span under way, for `batch`."""
        context = trace.get_current_span().get_span_context()
        return context if context.is_valid else None

    @contextmanager
    def batch(self, name: str, origins: Iterable[Origin | None], size: int) -> Iterator[None]:
        """What is done at once for many calls: in the trace of the first one, with links to the others; or none."""
        asked = list({origin.span_id: origin for origin in origins if origin is not None}.values())
        if not asked:
            yield
            return
        with (
            self._tracer.start_as_current_span(
                name,
                trace.set_span_in_context(NonRecordingSpan(asked[0])),
                SpanKind.INTERNAL,
                {"pba.batch.size": size},
                [Link(origin) for origin in asked[1 : 1 + MAX_LINKS]],
                record_exception=False,
            ) as span,
            _told_in_logs(span),
        ):
            yield


@contextmanager
def _told_in_logs(span: Span) -> Iterator[None]:
    context = span.get_span_context()
    with structlog.contextvars.bound_contextvars(
        trace_id=trace.format_trace_id(context.trace_id), span_id=trace.format_span_id(context.span_id)
    ):
        yield
