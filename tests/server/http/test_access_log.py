"""The access log: one line for each answer, with nothing in it that is secret or private."""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from server.http import access_log
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site, running, settings_with, waits
from tests.waiting import eventually

Lines = list[str]
SECRET = "tsk_0123456789ab_" + "a" * 32


class Written(logging.Handler):
    """What the access log has written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Lines = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, log = Written(), logging.getLogger("server.http.access")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler.lines
    log.removeHandler(handler)
    log.setLevel(before)


@contextmanager
def logging_site(folder: Path, form: str, *overrides: str) -> Iterator[Site]:
    with running(folder, settings_with(f"server.accessLog={form}", *overrides)) as site:
        yield site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with logging_site(tmp_path, "json") as found:
        yield found


def one(lines: Lines) -> dict[str, Any]:
    """The only line."""
    eventually(lambda: lines, ANSWER_SECONDS, "there is a line")
    (line,) = lines
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_tells_who_asked_what_and_how_it_ended(site: Site, lines: Lines) -> None:
    answer = site.submit(headers={"X-Request-Id": "mine"})
    line = one(lines)
    assert 0 <= line.pop("ms") < 1000 * ANSWER_SECONDS
    assert re.fullmatch("[0-9a-f]{32}", line.pop("trace_id"))
    assert line == {
        "time": "2027-01-15T08:00:00.000Z",
        "request_id": "mine",
        "address": "127.0.0.1",
        "method": "POST",
        "route": "/img-classification/{tier}",
        "status": 202,
        "bytes_in": len(PICTURE),
        "bytes_out": len(answer.body),
        "tier": "free",
    }


def test_an_owner_is_told_with_the_id_of_its_key_and_not_the_key(site: Site, lines: Lines) -> None:
    key = site.key("anna")
    site.submit(headers={"X-API-Key": key})
    line = one(lines)
    assert (line["owner"], line["key"], "address" in line) == ("anna", key.split("_")[1], False)
    site.submit(headers={"X-API-Key": key[:-2] + "zz"})
    site.get(f"/{key}")
    eventually(lambda: lines[2:], ANSWER_SECONDS, "each has a line")
    assert [json.loads(line).get("address") for line in lines[1:]] == ["127.0.0.1"] * 2
    assert [json.loads(line).get("code") for line in lines] == [None, "key_unknown", "key_in_url"]
    assert not any("tsk_" in line or key[-30:-2] in line for line in lines)


def test_a_refusal_is_told_with_its_code(site: Site, lines: Lines) -> None:
    answer = site.post("free", b"this is no picture")
    line = one(lines)
    assert (line["status"], line["code"], line["bytes_out"]) == (415, "unsupported_media_type", len(answer.body))


def test_a_request_whose_head_cannot_be_read_has_a_line(site: Site, lines: Lines) -> None:
    answer = site.exchange(b"NONSENSE\r\n\r\n")
    line = one(lines)
    assert line["request_id"].encode() in answer
    assert (line["address"], line["status"], line["code"]) == ("127.0.0.1", 400, "bad_request_line")


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v1/predictions/p" + "0" * 42 + "?wait=10&secret=hunter2", "/v1/predictions/{id}"),
        ("GET", "/hunter2/photo.jpg?secret=hunter2", "other"),
        ("HUNTER2", "/healthz", "/healthz"),
    ],
)
def test_of_what_was_asked_only_the_route_is_told(site: Site, lines: Lines, method: str, path: str, route: str) -> None:
    site.ask(method, path, None, {"Referer": "http://localhost/hunter2", "User-Agent": "hunter2"})
    line = one(lines)
    assert line["route"] == route
    assert line["method"] == (method if method == "GET" else "other")
    assert not any(word in lines[0] for word in ("hunter2", "HUNTER2", "photo", "wait", "p000"))


def test_no_request_id_takes_a_key_into_the_log(site: Site, lines: Lines) -> None:
    answer = site.ask("GET", "/healthz", None, {"X-Request-Id": SECRET})
    assert "tsk_" not in answer.headers["X-Request-Id"]
    assert one(lines)["request_id"] == answer.headers["X-Request-Id"]


def test_text_has_the_same_fields_and_cannot_be_forged(tmp_path: Path, lines: Lines) -> None:
    with logging_site(tmp_path, "text") as site:
        site.ask("GET", "/healthz", None, {"X-Request-Id": 'x status=200 owner="anna"'})
    (line,) = lines
    before, _, after = line.partition(' request_id="x status=200 owner=\\"anna\\"" ')
    assert before == "time=2027-01-15T08:00:00.000Z"
    assert re.match("trace_id=[0-9a-f]{32} ", after)
    after = after.partition(" ")[2]
    assert after.startswith("address=127.0.0.1 method=GET route=/healthz status=200 bytes_in=0 bytes_out=15 ms=")


def test_the_address_is_that_of_the_client_behind_a_trusted_proxy(tmp_path: Path, lines: Lines) -> None:
    with logging_site(tmp_path, "json", "server.trustedProxies={127.0.0.1/32}") as site:
        site.ask("GET", "/v1/tiers", None, {"X-Forwarded-For": "203.0.113.9"})
        assert one(lines)["address"] == "203.0.113.9"
        # The internal port is not reached through a proxy.
        lines.clear()
        site.internal.ask("GET", "/metrics", None, {"X-Forwarded-For": "203.0.113.9"})
        assert one(lines)["address"] == "127.0.0.1"


def test_a_channel_has_a_line_when_it_is_opened(site: Site, lines: Lines) -> None:
    channel = site.channel(site.job())
    line = one(lines)
    assert (line["route"], line["status"]) == ("/work/channel", 101)
    channel.break_off()
    site.idle()
    assert len(lines) == 1


def gone_while_it_waits(site: Site, connection: socket.socket) -> None:
    head = f"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(PICTURE)}\r\n"
    connection.sendall(f"{head}Prefer: wait=60\r\n\r\n".encode() + PICTURE)
    eventually(lambda: waits(site), ANSWER_SECONDS, "it waits")


def gone_while_it_sends(site: Site, connection: socket.socket) -> None:
    connection.sendall(b"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nGIF8")
    eventually(lambda: set(site.services.underway), ANSWER_SECONDS, "it is received")


@pytest.mark.parametrize("leave", [gone_while_it_waits, gone_while_it_sends])
def test_a_client_that_hangs_up_has_one_line(
    site: Site, lines: Lines, leave: Callable[[Site, socket.socket], None]
) -> None:
    with site.connected() as connection:
        leave(site, connection)
    assert one(lines)["status"] == access_log.CLIENT_CLOSED
    site.call(site.services.wakeups.drain)
    site.idle()
    assert len(lines) == 1


def test_one_who_hangs_up_after_an_early_refusal_has_the_line_of_its_answer(site: Site, lines: Lines) -> None:
    head = b"POST /img-classification/other HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n"
    assert site.exchange(head).startswith(b"HTTP/1.1 404 ")
    line = one(lines)
    assert (line["status"], line["code"]) == (404, "no_such_tier")


def test_nothing_is_logged_unless_it_is_turned_on(tmp_path: Path, lines: Lines) -> None:
    with running(tmp_path) as site:
        site.submit()
        site.exchange(b"NONSENSE\r\n\r\n")
    assert lines == []
