"""Exports spans to a collector over OTLP/HTTP (https://opentelemetry.io/docs/specs/otlp/), in a thread of its own.

Only a server that is told where its collector is imports this: OpenTelemetry takes 5 MB and 0.2 s. Variables
of the environment say the rest, as OTEL_EXPORTER_OTLP_HEADERS and OTEL_RESOURCE_ATTRIBUTES.
"""

from __future__ import annotations

import threading

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from server.spans import Span

MOST_SPANS = 2048  # that wait to be sent; then the oldest are dropped
EXPORT_SECONDS = 5.0  # for one batch, with all of its attempts
PAUSE_SECONDS = 2.0
LAST_SECONDS = 8.0


class Exporter:
    """Sends spans in batches. While the collector is away or slow, ``MOST_SPANS`` are kept."""

    def __init__(self, endpoint: str, version: str) -> None:
        """``endpoint`` is the collector's URL without the path of traces, such as ``http://collector:4318``."""
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        self._processor = BatchSpanProcessor(
            exporter, max_queue_size=MOST_SPANS, schedule_delay_millis=1000 * PAUSE_SECONDS
        )
        self._resource = Resource.create({"service.name": "tierserve", "service.version": version})
        self._scope = InstrumentationScope("tierserve", version)

    def add(self, span: Span) -> None:
        """As ``Sink.add``."""
        trace = span.trace
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(trace.trace_id, trace.span_id),
                parent=_context(trace.trace_id, trace.parent_id) if trace.parent_id else None,
                resource=self._resource,
                attributes=dict(span.attributes),
                kind=SpanKind.SERVER if span.serves else SpanKind.INTERNAL,
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
                start_time=1000 * round(span.begin * 1e6),
                end_time=1000 * round(span.end * 1e6),
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """As ``Sink.close``."""
        # In a thread that nobody waits for longer: the processor would give a collector that is away 30 s.
        closing = threading.Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        closing.start()
        closing.join(LAST_SECONDS)


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
