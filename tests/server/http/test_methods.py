"""Which methods a route has: ``HEAD`` is ``GET`` without its body, ``OPTIONS`` names them, and others get a 405."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from server.http.base import BaseHandler
from server.http.routes import INTERNAL, PUBLIC
from server.metrics import METHODS
from tests.server.http import raw
from tests.server.http.http_site import PICTURE, Site, assert_problem, running, settings_with

VALUES = {
    "{tier}": "free",
    "{id}": "x",
    "{reference}": "a@b",
    "{sha256}": "0" * 64,
    "{tag}": "t",
    "{file}": "x",
    "{version}": "x",
}
CHANGING = {"Date", "X-Request-Id", "Server-Timing", "Etag"}


def path_of(route: str) -> str:
    """A path of a route."""
    for name, value in VALUES.items():
        route = route.replace(name, value)
    return route


def named(allow: str) -> set[str]:
    """The methods in an ``Allow``."""
    return set(allow.split(", "))


@pytest.mark.parametrize("route", PUBLIC)
def test_options_names_the_methods_of_each_route_and_all_others_are_refused(shared: Site, route: str) -> None:
    answer = shared.ask("OPTIONS", path_of(route))
    assert (answer.status, answer.body) == (204, b"")
    assert "Content-Length" not in answer.headers
    allowed = named(answer.headers["Allow"])
    assert allowed == {*PUBLIC[route].methods(), "OPTIONS"}
    for method in METHODS - allowed:
        refused = shared.ask(method, path_of(route))
        assert (refused.status, named(refused.headers["Allow"])) == (405, allowed)
        has_problems = PUBLIC[route].problem_document is BaseHandler.problem_document  # and no other service's errors
        if method != "HEAD" and has_problems:
            assert_problem(refused, 405, "method_not_allowed")
    refused = shared.ask("PURR", path_of(route))
    assert (refused.status, named(refused.headers["Allow"])) == (405, allowed)


@pytest.mark.parametrize("route", INTERNAL)
def test_the_internal_port_names_the_methods_of_a_route_where_it_refuses_one(shared: Site, route: str) -> None:
    allowed = set(INTERNAL[route].methods())
    assert allowed
    for method in METHODS - allowed:
        refused = shared.internal.ask(method, path_of(route))
        assert (refused.status, named(refused.headers["Allow"])) == (405, allowed), method


def test_head_is_there_where_get_is() -> None:
    for routes in (PUBLIC, INTERNAL):
        for route, handler in routes.items():
            if route != "/work/channel":
                assert ("HEAD" in handler.methods()) >= ("GET" in handler.methods()), route
    assert {"GET", "HEAD"} == PUBLIC["/v1/tiers"].methods()
    assert {"POST"} == PUBLIC["/img-classification/{tier}"].methods()
    assert {"HEAD", "GET", "PUT"} == INTERNAL["/v1/model-files/{sha256}"].methods()
    assert frozenset() == BaseHandler.methods()


def test_head_has_the_head_of_get(site: Site) -> None:
    token = site.key()
    ended = site.submit().headers["Location"]
    site.ask("DELETE", ended)
    for path in (
        "/healthz",
        "/readyz",
        "/v1/tiers",
        "/v1/tiers/free",
        "/v1/tiers/gold",
        "/v1/models",
        "/v1/models/no@model",
        "/config",
        "/v1/predictions",
        "/v1/predictions?limit=0",
        ended,
        f"{ended}?wait=1",
        "/v1/predictions/unknown",
        "/nothing",
    ):
        for headers in ({}, {"Authorization": f"Bearer {token}"}, {"X-API-Key": "tsk_wrong_key"}):
            get, head = (site.ask(method, path, headers=headers) for method in ("GET", "HEAD"))
            assert (head.status, head.body) == (get.status, b""), path
            assert {n: v for n, v in head.headers.items() if n not in CHANGING} == {
                n: v for n, v in get.headers.items() if n not in CHANGING
            }
            assert int(head.headers["Content-Length"]) == len(get.body)


def test_a_connection_goes_on_after_answers_without_a_body(shared: Site) -> None:
    def asked(method: str, path: str) -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    first = [asked("HEAD", "/v1/tiers"), asked("HEAD", "/nothing"), asked("OPTIONS", "/v1/tiers")]
    with raw.connect(shared.port) as connection:
        connection.sendall(
            b"".join([*first, asked("GET", "/healthz").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
        )
        *without, last = raw.rest(connection).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in without] == [b"200", b"404", b"204"]
    assert all(answer.endswith(b"\r\n\r\n") for answer in without)
    assert last.endswith(b'{"status":"ok"}')


def test_options_needs_no_key_and_no_tier(tmp_path: Path) -> None:
    with running(tmp_path, settings_with("server.requireKeys=true", "tiers.free.access.anonymous=false")) as site:
        for path in ("/img-classification/free", "/img-classification/gold", "/v1/predictions/unknown"):
            assert site.ask("OPTIONS", path).status == 204
            assert site.ask("OPTIONS", path, headers={"Authorization": "Bearer tsk_wrong_key"}).status == 204
        assert_problem(site.ask("OPTIONS", "/v1/tiers", headers={"Host": "evil.example"}), 421, "wrong_host")


def test_a_body_of_options_is_dropped_and_bounded(shared: Site) -> None:
    answer = shared.ask("OPTIONS", "/img-classification/free", PICTURE, {"Content-Type": "image/jpeg"})
    assert (answer.status, answer.body) == (204, b"")
    assert_problem(shared.ask("OPTIONS", "/img-classification/free", bytes(5000)), 413, "too_many_bytes")


def test_the_access_log_counts_no_bytes_for_a_body_that_is_not_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "server.http.access"):
        with running(tmp_path, settings_with("server.accessLog=json")) as site:
            for method in ("HEAD", "OPTIONS"):
                site.ask(method, "/v1/tiers")
        lines = [json.loads(record.message) for record in caplog.records if record.name == "server.http.access"]
    assert [(line["method"], line["route"], line["bytes_out"]) for line in lines] == [
        ("HEAD", "/v1/tiers", 0),
        ("OPTIONS", "/v1/tiers", 0),
    ]
