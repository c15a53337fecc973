"""Who may use which tier, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.http.http_site import Site, assert_problem, running, settings_with, waits


@pytest.fixture(params=["server.host=0.0.0.0", "server.requireKeys=true"])
def closed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site where the tiers' rules of access apply."""
    with running(tmp_path, settings_with(request.param)) as found:
        yield found


def test_on_loopback_everything_is_open(site: Site) -> None:
    assert [site.submit(tier).status for tier in ("free", "premium")] == [202, 202]


def test_a_tier_that_is_not_for_everybody(closed: Site) -> None:
    assert closed.submit("free").status == 202
    refused = closed.submit("premium")
    assert_problem(refused, 401, "key_missing")
    assert refused.headers["Www-Authenticate"] == "Bearer"
    assert waits(closed, "premium") == 0
    assert_problem(closed.submit("other"), 404, "no_such_tier")
    # Anybody may see what there is.
    assert closed.get("/v1/tiers/premium").status == 200
    assert [tier["name"] for tier in closed.get("/v1/tiers").json["tiers"]] == ["free", "premium"]


def test_who_may_not_use_a_tier_need_not_send_the_body(closed: Site) -> None:
    head = b"POST /img-classification/premium HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
    answer = closed.exchange(head + b"Content-Type: image/jpeg\r\nExpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")
