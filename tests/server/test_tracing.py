"""The export of spans: what comes to a collector, and that nobody waits for one that is away."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from server import tracing
from server.spans import Span
from server.traces import Trace
from server.tracing import Exporter
from tests.running import ROOT
from tests.server.collector import attributes, collecting
from tests.waiting import eventually

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331", sampled=True)
SPAN = Span(
    TRACE, "POST /hf/{tier}", 1_800_000_000.25, 1_800_000_001.5, {"http.route": "/hf/{tier}"}, "503", serves=True
)
SECONDS = 20.0


def test_a_collector_gets_spans_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20collector")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=tests")
    with collecting() as collector:
        exporter = Exporter(f"{collector.url}/", "1.2.3")
        exporter.add(SPAN)
        exporter.close()
        (span,) = collector.spans
        (resource,) = collector.resources
        (headers,) = collector.headers
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (
        TRACE.trace_id,
        TRACE.span_id,
        TRACE.parent_id,
    )
    assert (span.name, span.kind, span.status.code, span.status.message) == (SPAN.name, 2, 2, "503")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
        1_800_000_000_250_000_000,
        1_800_000_001_500_000_000,
    )
    assert attributes(span) == {"http.route": "/hf/{tier}"}
    told = {"service.name": "tierserve", "service.version": "1.2.3", "deployment.environment": "tests"}
    assert resource.items() >= told.items()
    assert headers["authorization"] == "Bearer collector"


def test_spans_go_out_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "PAUSE_SECONDS", 0.1)
    with collecting() as collector:
        exporter = Exporter(collector.url, "1")
        exporter.add(SPAN)
        eventually(lambda: collector.spans, SECONDS, "the span comes")
        exporter.close()


def test_nobody_waits_for_a_collector_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "LAST_SECONDS", 0.5)
    monkeypatch.setattr(tracing, "EXPORT_SECONDS", 0.5)
    with collecting() as collector:
        collector.gate.clear()
        exporter = Exporter(collector.url, "1")
        began = time.monotonic()
        for _ in range(3 * tracing.MOST_SPANS):
            exporter.add(SPAN)
        added = time.monotonic() - began
        exporter.close()
        assert time.monotonic() - began - added < 5
        assert added < 5
        collector.gate.set()
        assert len(collector.spans) <= 2 * tracing.MOST_SPANS, "the oldest were dropped"


def test_a_server_without_a_collector_never_imports_opentelemetry() -> None:
    code = "import sys, server.app, server.http.routes; print([name for name in sys.modules if 'telemetry' in name])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
