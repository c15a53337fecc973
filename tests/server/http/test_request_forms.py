"""Requests are understood in each form in which clients and proxies send them.

How that could fail: a whole URL as the target is refused, or lets the header Host decide for whom it is meant; a slash
at the end, an empty query or a percent-encoded colon finds no route, or another one; a method in small letters or an
asterisk is answered without a word of what is there.
"""

from __future__ import annotations

import pytest

from server.http.routes import INTERNAL, PUBLIC
from tests.running import Answer
from tests.server.http import raw
from tests.server.http.http_site import ADMIN_TOKEN, PICTURE, Site, assert_problem
from tests.server.http.test_methods import CHANGING, named, path_of


def sent(site: Site, line: str, host: str | None = "localhost") -> Answer:
    """The answer to a request with this first line, on a connection of its own."""
    lines = [line, *([] if host is None else [f"Host: {host}"]), "Connection: close", "", ""]
    return raw.parsed(raw.send(site.port, "\r\n".join(lines).encode()))


def existing(route: str) -> str:
    """A path of the route; of one for files, that of a file."""
    return {"/page/{file}": "/page/style.css", "/docs/{file}": "/docs/docs.css"}.get(route, path_of(route))


@pytest.mark.parametrize("target", ["http://localhost/healthz", "HTTP://localhost:1/healthz?", "https://[::1]/healthz"])
def test_the_target_may_be_a_whole_url(shared: Site, target: str) -> None:
    assert sent(shared, f"GET {target} HTTP/1.1").json == {"status": "ok"}
    assert sent(shared, f"GET {target} HTTP/1.0", None).json == {"status": "ok"}


def test_a_url_without_a_path_means_the_root(shared: Site) -> None:
    for target in ("http://localhost", "http://localhost?a=b"):
        assert sent(shared, f"GET {target} HTTP/1.1").headers["Content-Type"].startswith("text/html")


def test_the_host_of_the_url_counts_and_not_the_header(shared: Site) -> None:
    assert_problem(sent(shared, "GET http://evil.example/healthz HTTP/1.1"), 421, "wrong_host")
    assert sent(shared, "GET http://localhost/healthz HTTP/1.1", "evil.example").status == 200


def test_a_picture_may_be_sent_to_a_whole_url(shared: Site) -> None:
    head = "POST http://localhost/img-classification/free HTTP/1.1\r\nHost: localhost\r\nPrefer: respond-async\r\n"
    data = f"{head}Connection: close\r\nContent-Length: {len(PICTURE)}\r\n\r\n".encode() + PICTURE
    assert raw.parsed(raw.send(shared.port, data)).status == 202


def test_an_asterisk_asks_for_the_methods_of_the_server(shared: Site) -> None:
    for port, routes in ((shared.port, PUBLIC), (shared.internal.port, INTERNAL)):
        answer = raw.parsed(raw.send(port, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
        assert (answer.status, answer.body) == (204, b"")
        assert named(answer.headers["Allow"]) == {"OPTIONS"}.union(*(handler.methods() for handler in routes.values()))


@pytest.mark.parametrize("route", [route for route in PUBLIC if route != "/"])
def test_a_slash_at_the_end_finds_the_same_route(shared: Site, route: str) -> None:
    path = existing(route)
    for method in [*sorted(PUBLIC[route].methods() - {"GET"}), "OPTIONS"]:
        plain, slash = (shared.ask(method, found) for found in (path, f"{path}/"))
        assert slash.status == plain.status, method
        assert {n: v for n, v in slash.headers.items() if n not in CHANGING} == {
            n: v for n, v in plain.headers.items() if n not in CHANGING
        }, method


def test_a_slash_at_the_end_changes_no_answer(shared: Site) -> None:
    for path in ("/img-classification/free", "/predictions/free"):
        assert shared.ask("POST", f"{path}/", PICTURE, {"Prefer": "respond-async"}).status in (202, 504), path
    for path in ("/watch/", "/docs/", "/v1/tiers/free/", "/v2/", "/ping/", "/readyz/", "/healthz/?"):
        assert shared.get(path).status == shared.get(path.replace("/?", "").removesuffix("/")).status, path
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert shared.internal.ask("GET", "/v1/keys/", headers=headers).status == 200


@pytest.mark.parametrize(
    ("asked", "same"),
    [
        ("/v1/models/free%3Apredict", "/v1/models/free:predict"),
        ("/v1/models/free%3apredict", "/v1/models/free:predict"),
        ("/img%2Dclassification/%66ree", "/img-classification/free"),
        ("/healthz?", "/healthz"),
        ("/healthz?%", "/healthz"),
        ("/v1%2Ftiers", "/v1%252Ftiers"),
    ],
)
def test_what_is_encoded_without_need_means_the_same(shared: Site, asked: str, same: str) -> None:
    for method in ("OPTIONS", "HEAD"):
        first, second = (sent(shared, f"{method} {path} HTTP/1.1") for path in (asked, same))
        assert (first.status, first.headers.get("Allow")) == (second.status, second.headers.get("Allow"))


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("//img-classification/free", "/img-classification/free"),
        ("/img-classification//free", "/img-classification/free"),
        ("/image-classification/free", "/img-classification/free"),
        ("/IMG-Classification/free", "/img-classification/free"),
        ("/health", "/healthz"),
    ],
)
def test_what_is_almost_a_route_is_told_it(shared: Site, path: str, meant: str) -> None:
    answer = shared.ask("POST", path, PICTURE)
    assert_problem(answer, 404, "no_such_route")
    assert answer.json["detail"].endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("path", ["/nothing/at/all", "/v1/nothing", "/img-classification", "/" + "img-" * 30, "/%00"])
def test_what_is_like_no_route_is_told_none(shared: Site, path: str) -> None:
    assert "did you mean" not in shared.get(path).json["detail"]


@pytest.mark.parametrize(
    ("method", "said"), [("post", "capital letters"), ("PURR", "has no PURR"), ("Get", "but OPTIONS")]
)
def test_a_method_that_a_route_has_not_is_told_those_that_it_has(shared: Site, method: str, said: str) -> None:
    answer = sent(shared, f"{method} /img-classification/free HTTP/1.1")
    assert_problem(answer, 405, "method_not_allowed")
    assert said in answer.json["detail"]
    assert named(answer.headers["Allow"]) == {"OPTIONS", "POST"}


@pytest.mark.parametrize("line", ["GET /healthz HTTP/1.0", "GET /v1/tiers HTTP/1.0", "HEAD /healthz HTTP/1.0"])
def test_http_1_0_needs_no_host(shared: Site, line: str) -> None:
    assert sent(shared, line, None).status == 200


@pytest.mark.parametrize("routes", [PUBLIC, INTERNAL], ids=["public", "internal"])
def test_head_is_the_head_of_get_on_every_route(shared: Site, routes: dict[str, object]) -> None:
    port = shared if routes is PUBLIC else shared.internal
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"} if routes is INTERNAL else {}
    for route in routes:
        path = existing(route)
        if path.endswith("events") or path in ("/work/channel", "/metrics"):  # without an end, or never twice the same
            continue
        get, head = (port.ask(method, path, headers=headers) for method in ("GET", "HEAD"))
        if get.status == 405:
            assert head.status == 405, path
            continue
        assert (head.status, head.body) == (get.status, b""), path
        assert {n: v for n, v in head.headers.items() if n not in CHANGING | {"Content-Length"}} == {
            n: v for n, v in get.headers.items() if n not in CHANGING | {"Content-Length"}
        }, path


def test_head_of_a_stream_and_of_metrics_ends(shared: Site) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert shared.internal.ask("HEAD", "/metrics", headers=headers).status == 200
    answer = shared.ask("HEAD", "/v1/tiers/events")
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "text/event-stream", b"")
