"""Callers that trace with OpenTelemetry see the service's part of their traces: calls carry W3C `traceparent`."""

from __future__ import annotations

import sys

Metadata = tuple[tuple[str, str], ...]


def with_trace(metadata: Metadata) -> Metadata:
    """Metadata that name the span under way too, if there is one.

    Who has not imported OpenTelemetry has no span, and it is not imported for them.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not trace.get_current_span().get_span_context().is_valid:
        return metadata
    from opentelemetry import propagate  # noqa: PLC0415 - see above

    carried: dict[str, str] = {}
    propagate.inject(carried)
    return (*metadata, *((key.lower(), value) for key, value in carried.items()))
