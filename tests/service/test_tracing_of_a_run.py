"""A run with real workers: one trace goes through the server, the worker and its log to a collector."""

from __future__ import annotations

import json
from pathlib import Path

from tests.running import service
from tests.server.collector import attributes, collecting
from tests.waiting import eventually

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECONDS = 30.0


def test_a_trace_goes_from_the_client_to_the_worker_and_to_the_collector(
    models: Path, tmp_path: Path, cat: bytes
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "mine"}
    with collecting() as collector:
        settings = [f"server.tracing.endpoint={collector.url}", "server.tracing.ratio=0", "server.accessLog=json"]
        with service(models, tmp_path / "state", settings) as running:
            answer = running.post("free", cat, headers)
            assert answer.status == 200
            running.post("free", cat)
            later = running.post(
                "free", cat, {**headers, "traceparent": f"00-{'a' * 32}-{SPAN}-01", "Prefer": "respond-async"}
            )
            running.get(f"{later.headers['Location']}?wait=30")
            eventually(lambda: len(collector.of("a" * 32)), SECONDS, "all spans come", lambda many: many == 3)
            ended = [line for line in running.log.read_text().splitlines() if line.startswith("{")]
            logs = [path.read_text() for path in (tmp_path / "state" / "logs").glob("*.log")]
        assert {span.trace_id.hex() for span in collector.spans} == {TRACE, "a" * 32}, "the other one was not sampled"
        for trace in (TRACE, "a" * 32):
            spans = collector.of(trace)
            request = spans["POST /img-classification/{tier}"]
            assert request.parent_span_id.hex() == SPAN
            assert attributes(request)["tierserve.request_id"] == "mine"
            for name in ("queue", "predict"):
                assert spans[name].parent_span_id == request.span_id
            assert spans["queue"].end_time_unix_nano <= spans["predict"].end_time_unix_nano
    lines = [json.loads(line) for log in logs for line in log.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["trace_id"] == TRACE]
    assert (line["request_id"], line["prediction"]) == ("mine", answer.json["id"])
    (line,) = [found for found in map(json.loads, ended) if found["trace_id"] == TRACE]
    assert line["request_id"] == "mine"
