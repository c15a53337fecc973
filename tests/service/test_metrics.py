"""The metrics, as Prometheus reads them from a real server."""

from __future__ import annotations

import http.client
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.metrics import Metrics
from tests.running import ROOT, Answer, Service, service
from tests.service.conftest import PAUSED
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat
from tests.waiting import eventually

Key = tuple[str, frozenset[tuple[str, str]]]
CLASSIFY = "/img-classification/{tier}"


@pytest.fixture(scope="module")
def measured(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = ["tiers.premium.quota.pods=0", "tiers.premium.limits.queue=1"]
    with service(models, tmp_path_factory.mktemp("measured"), settings) as found:
        yield found


def scrape(found: Service) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", found.internal_port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


class Series(dict[Key, float]):
    """The samples of one scrape."""

    def __init__(self, text: bytes) -> None:
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self, key
                self[key] = sample.value

    def of(self, name: str, **labels: str) -> float | None:
        return self.get((f"tierserve_{name}", frozenset(labels.items())))


def series(found: Service) -> Series:
    answer = scrape(found)
    assert answer.status == 200
    return Series(answer.body)


def grown(before: Series, found: Service, times: int, name: str, **labels: str) -> None:
    """Wait until a counter has grown by so much. A counter that does not exist yet is 0."""
    expected = (before.of(name, **labels) or 0) + times
    becomes(found, expected, name, **labels)


def becomes(found: Service, expected: float, name: str, **labels: str) -> None:
    """Wait until a metric has a value, because figures may be some tenths of a second old."""
    what = f"{name} {labels} is {expected:g}"
    eventually(lambda: series(found).of(name, **labels), 20, what, lambda value: value == expected)


def test_it_is_plain_prometheus_text_on_the_internal_port_only(measured: Service) -> None:
    assert scrape(measured).headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    public = measured.get("/metrics")
    assert (public.status, public.json["code"]) == (404, "no_such_route")


def test_a_classified_picture_is_counted(measured: Service) -> None:
    before = series(measured)
    assert is_cat(measured.post("free", CAT))
    grown(before, measured, 1, "predictions_ended_total", tier="free", status="succeeded")
    grown(before, measured, 1, "http_requests_total", route=CLASSIFY, method="POST", status="200")
    grown(before, measured, 1, "http_request_duration_seconds_count", route=CLASSIFY)
    grown(before, measured, 1, "http_request_duration_seconds_bucket", route=CLASSIFY, le="60.0")
    becomes(measured, 1, "http_requests_total", route="/work/channel", method="GET", status="101")
    after = series(measured).of("http_request_duration_seconds_sum", route=CLASSIFY)
    assert after is not None
    assert 0 < after - (before.of("http_request_duration_seconds_sum", route=CLASSIFY) or 0) < 60


def test_each_stage_of_a_prediction_is_measured(measured: Service) -> None:
    before = series(measured)
    assert is_cat(measured.post("free", CAT))
    kept = {"Prefer": "wait=60", "Idempotency-Key": "stages"}  # this one goes through the table
    assert is_cat(measured.post("free", CAT, kept))
    for name in ("prediction_queue", "prediction"):
        grown(before, measured, 2, f"{name}_seconds_count", tier="free")
        grown(before, measured, 2, f"{name}_seconds_bucket", tier="free", le="60.0")
    found = series(measured)
    waited, whole = (found.of(f"{name}_seconds_sum", tier="free") or 0 for name in ("prediction_queue", "prediction"))
    assert waited < whole
    assert found.of("worker_start_seconds_count", tier="premium") == 0
    assert (found.of("worker_start_seconds_count", tier="free") or 0) >= 1
    assert 0 < (found.of("worker_start_seconds_sum", tier="free") or 0) < 60
    assert (found.of("commit_seconds_count") or 0) > (before.of("commit_seconds_count") or 0)


def test_a_disk_tells_what_is_free_and_what_of_it_is_kept(measured: Service) -> None:
    found = series(measured)
    free, reserve = (found.of(f"disk_{what}_bytes", disk="data") or 0 for what in ("free", "reserve"))
    assert 0 < reserve < free


def test_what_a_model_has_done_is_counted_and_told(measured: Service) -> None:
    assert is_cat(measured.post("free", CAT))
    told = measured.get("/v1/tiers/free").json["model"]
    labels = {"tier": "free", "model": told["reference"], "variant": "onnx/int8"}
    before = series(measured)
    assert is_cat(measured.post("free", CAT))
    for name in ("predictions_total", "pictures_total", "predict_seconds_count"):
        grown(before, measured, 1, f"model_{name}", **labels)
    found = series(measured)
    assert found.of("model_failed_pictures_total", **labels) == 0
    assert found.of("model_predict_seconds_bucket", **labels, le="65.536") == found.of(
        "model_predictions_total", **labels
    )
    assert 0 < (found.of("model_predict_seconds_sum", **labels) or 0) < 60
    counted = found.of("model_predictions_total", **labels)
    eventually(
        lambda: measured.get("/v1/tiers/free").json["model"]["measured"]["predictions"],
        20,
        "the tier tells as many",
        lambda many: many == counted,
    )


def test_the_tiers_are_shown(measured: Service) -> None:
    assert is_cat(measured.post("free", CAT))
    expected = {
        "predictions_queued": 0,
        "predictions_leased": 0,
        "predictions_oldest_wait_seconds": 0,
        "workers_running": 1,
        "workers_starting": 0,
        "workers_room": 1,
        "tier_healthy": 1,
        "breaker_strikes": 0,
    }
    eventually(
        lambda: {name: series(measured).of(name, tier="free") for name in expected},
        20,
        f"the figures of free are {expected}",
        lambda figures: figures == expected,
    )
    becomes(measured, 1, "quota_used", tier="free", resource="pods")
    found = series(measured)
    assert found.of("quota_hard", tier="free", resource="cpu") == 2
    assert found.of("quota_used", tier="free", resource="cpu") == 0.9
    assert found.of("quota_hard", tier="free", resource="memory") == 2 << 30
    assert found.of("quota_hard", tier="premium", resource="pods") == 0
    age = found.of("dispatcher_report_age_seconds", tier="free")
    assert age is not None
    assert 0 <= age < 20


def test_the_server_is_shown(measured: Service) -> None:
    found = series(measured)
    assert found.of("build_info", version="0.1.0") == 1
    assert found.of("settings_in_force") == found.of("queue_readable") == 1
    assert found["process_resident_memory_bytes", frozenset()] > 10e6


def test_who_waits_and_who_is_sent_away_is_counted(measured: Service) -> None:
    before = series(measured)
    kept = measured.post("premium", CAT, {"Prefer": "respond-async"})
    assert kept.status == 202
    becomes(measured, 1, "predictions_queued", tier="premium")
    eventually(
        lambda: series(measured).of("predictions_oldest_wait_seconds", tier="premium"),
        20,
        "the oldest one has waited for a while",
        lambda seconds: seconds and seconds > 0.2,
    )
    assert measured.post("premium", CAT).status == 429
    refused_and_gone(measured)
    measured.ask("DELETE", kept.headers["Location"])
    grown(before, measured, 1, "http_requests_total", route=CLASSIFY, method="POST", status="202")
    grown(before, measured, 2, "http_requests_total", route=CLASSIFY, method="POST", status="429")
    grown(before, measured, 2, "rejected_requests_total", tier="premium", code="queue_full")
    grown(before, measured, 1, "predictions_ended_total", tier="premium", status="canceled")
    becomes(measured, 0, "predictions_queued", tier="premium")


def refused_and_gone(found: Service) -> None:
    """Be a client that reads its refusal and hangs up without having sent its body."""
    head = b"POST /img-classification/premium HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", found.port), timeout=10) as connection:
        connection.sendall(head)
        assert b" 429 " in connection.recv(1000)


def test_a_bad_picture_is_a_failed_prediction_and_no_rejected_request(measured: Service) -> None:
    before = series(measured)
    assert measured.post("free", CAT[: len(CAT) // 2]).json["code"] == "image_truncated"
    grown(before, measured, 1, "predictions_ended_total", tier="free", status="failed")
    after = series(measured)
    rejected = [{key: count for key, count in found.items() if "rejected" in key[0]} for found in (before, after)]
    assert rejected[0] == rejected[1]


def test_no_text_of_a_client_becomes_a_label(measured: Service) -> None:
    def strange(text: str) -> set[Key]:
        """The series after requests with this text in every place for a client's text.

        Those of workers are left out, because they may appear at any time.
        """
        assert measured.get(f"/{text}").status == 404
        assert measured.get(f"/v1/predictions/{text}").status == 404
        assert measured.post(text, CAT).status == 404
        for path in (f"/{text}", "/img-classification/free"):
            assert measured.ask(text.upper(), path).status == 405
        body = scrape(measured).body
        assert text.encode() not in body.lower()
        return {key for key in Series(body) if "/work/" not in dict(key[1]).get("route", "")}

    assert strange("abracadabra") == strange("hocuspocus")
    found = series(measured)
    for counted in (
        found.of("http_requests_total", route="other", method="GET", status="404"),
        found.of("http_requests_total", route=CLASSIFY, method="other", status="405"),
        found.of("rejected_requests_total", tier="", code="no_such_tier"),
    ):
        assert (counted or 0) >= 2


def test_a_queue_that_cannot_be_read_leaves_the_rest(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path, PAUSED) as found:
        assert series(found).of("queue_readable") == 1
        for name in ("queue.db", "queue.db-wal"):
            with (tmp_path / "data" / name).open("r+b") as file:
                file.write(os.urandom(os.fstat(file.fileno()).st_size))
        becomes(found, 0, "queue_readable")
        now = series(found)
        assert now.of("predictions_queued", tier="free") is None
        assert (now.of("http_requests_total", route="/metrics", method="GET", status="200") or 0) >= 1


def test_the_page_names_what_is_exported(measured: Service) -> None:
    exported = set(re.findall(r"^# TYPE (\S+)", scrape(measured).body.decode(), re.MULTILINE))
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == exported
    assert set(re.findall(r"tierserve_\w+", page)) == {name for name in exported if name.startswith("tierserve_")}


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics("1", ["succeeded"]), Metrics("1", ["succeeded"])
    one.ended("free", "succeeded")
    told = [Series(found.exposition({}, {}, in_force=True, accepting=True, streams=0)) for found in (one, other)]
    assert [found.of("predictions_ended_total", tier="free", status="succeeded") for found in told] == [1, None]
