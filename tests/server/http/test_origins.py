"""Requests for another host and changes by other sites' pages are refused, on both ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from server.settings.live import Live
from server.settings.sources import Files
from tests.running import Answer
from tests.server.http import raw
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site, assert_problem, running

LOOPBACK = ["localhost", "localhost:8080", "LocalHost", "localhost.", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"]
OTHERS = ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "127.0.0.1.nip.io", "[::2]", "0"]


@contextmanager
def site_with(*overrides: str) -> Iterator[Site]:
    with TemporaryDirectory() as folder, running(Path(folder), Live(Files(overrides=overrides))) as found:
        yield found


def asked(port: int, host: str, path: str = "/healthz") -> Answer:
    return raw.parsed(raw.send(port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()))


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_a_loopback_address_the_loopback_names_are_served(shared: Site, host: str) -> None:
    assert asked(shared.port, host).status == 200
    assert asked(shared.internal.port, host, "/metrics").status == 200


@pytest.mark.parametrize("host", OTHERS)
def test_another_host_is_refused_on_every_route_of_both_ports(shared: Site, host: str) -> None:
    for path in (
        "/healthz",
        "/readyz",
        "/config",
        "/v1/tiers",
        "/v1/tiers/free",
        "/v1/predictions/x",
        "/img-classification/free",
        "/no",
    ):
        assert_problem(asked(shared.port, host, path), 421, "wrong_host")
    for path in ("/metrics", "/healthz", "/readyz", "/work/channel", "/no"):
        assert_problem(asked(shared.internal.port, host, path), 421, "wrong_host")
    head = f"POST /img-classification/free HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
    answer = shared.exchange(head.encode() + PICTURE)
    assert_problem(raw.parsed(answer), 421, "wrong_host")
    assert shared.queue.depths().result(ANSWER_SECONDS) == {}


def test_http_1_0_may_leave_the_host_out(shared: Site) -> None:
    assert raw.parsed(raw.send(shared.port, b"GET /healthz HTTP/1.0\r\n\r\n")).status == 200
    assert raw.parsed(raw.send(shared.port, b"GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n")).status == 421


def test_on_other_addresses_every_host_is_served_unless_some_are_listed() -> None:
    with site_with("server.host=0.0.0.0") as found:
        assert [asked(found.port, host).status for host in LOOPBACK + OTHERS] == [200] * len(LOOPBACK + OTHERS)


def test_only_listed_hosts_are_served_and_the_address_that_was_connected_to() -> None:
    with site_with("server.host=0.0.0.0", "server.hosts={classify.example.org,*.pictures.example.org}") as found:
        good = [
            "classify.example.org",
            "CLASSIFY.example.org:443",
            "a.pictures.example.org",
            "127.0.0.1:8081",
            "0.0.0.0",
        ]
        bad = ["localhost", "example.org", "b.a.pictures.example.org", "pictures.example.org", "127.0.0.2", "[::1]"]
        for port in (found.port, found.internal.port):
            assert [asked(port, host).status for host in good] == [200] * len(good)
            assert [asked(port, host).status for host in bad] == [421] * len(bad)
        connection = HTTPConnection("127.0.0.1", found.port, source_address=("127.0.0.2", 0))
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()


def test_workers_of_a_cluster_reach_the_server_by_its_service(tmp_path: Path) -> None:
    listed = Live(Files(overrides=("server.host=0.0.0.0", "server.hosts={classify.example.org}")))
    with running(tmp_path, listed, internal_url="http://tierserve-internal.system.svc:8081") as found:
        assert asked(found.internal.port, "tierserve-internal.system.svc:8081").status == 200
        assert asked(found.internal.port, "tierserve-internal.other.svc:8081").status == 421


def posted(site: Site, headers: dict[str, str], method: str = "POST") -> Answer:
    return site.ask(method, "/img-classification/free", PICTURE, {"Prefer": "respond-async", **headers})


def test_a_page_of_this_server_may_change_something(shared: Site) -> None:
    for headers in (
        {},
        {"Origin": f"http://127.0.0.1:{shared.port}"},
        {"Origin": f"http://127.0.0.1:{shared.port}", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://localhost", "Host": "localhost"},
        {"Origin": "https://localhost:443", "Host": "LOCALHOST"},
        {"Origin": "http://localhost", "Host": "localhost:80"},
        {"Origin": "http://[::1]:8080", "Host": "[::1]:8080"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert posted(shared, headers).status == 202, headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "file://"},
        {"Origin": "chrome-extension://localhost"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:99999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "Cross-Site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain"},
    ],
)
def test_a_page_of_another_site_may_change_nothing(site: Site, headers: dict[str, str]) -> None:
    assert_problem(posted(site, headers), 403, "wrong_origin")
    assert site.queue.depths().result(ANSWER_SECONDS) == {}
    url, token = site.submit().headers["Location"], site.job()
    assert_problem(site.ask("DELETE", url, None, headers), 403, "wrong_origin")
    assert_problem(site.refusal(token, headers), 403, "wrong_origin")
    assert site.ask("GET", url, None, headers).json["status"] == "queued"


def test_a_link_on_another_page_may_be_followed(shared: Site) -> None:
    assert shared.ask("GET", "/v1/tiers", None, {"Sec-Fetch-Site": "cross-site"}).status == 200


def test_the_internal_port_tells_the_kubelet_about_health(site: Site) -> None:
    for path in ("/healthz", "/readyz"):
        answer = asked(site.internal.port, f"127.0.0.1:{site.internal.port}", path)
        assert (answer.status, answer.json["status"]) == (200, {"/healthz": "ok", "/readyz": "ready"}[path])
