"""Pages of the listed sites may ask the public port and read its answers, errors too; pages of all others may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from server.http import origins
from server.http.routes import PUBLIC
from server.settings.judging import judge
from server.settings.live import Live
from server.settings.sources import Files
from tests.running import Answer
from tests.server.http.http_site import ASYNC, PICTURE, Site, assert_problem, running, settings_with
from tests.server.http.test_methods import named, path_of

APP, OTHER = "https://app.example.org", "http://[fd00::1]:3000"
LISTED = f"server.cors.origins={{{APP},{OTHER}}}"
EVERY = "server.cors.origins=*"
STRANGERS = [
    "https://evil.example",
    "http://app.example.org",
    "https://app.example.org:444",
    "https://app.example.org:443",
    "https://app.example.org.evil.example",
    "https://evil-app.example.org",
    "https://App.example.org",
    "https://app.example.org/",
    f"{APP}, {APP}",
    f"{APP} {OTHER}",
    "null",
    "*",
    "",
]


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("listing"), settings_with(LISTED)) as found:
        yield found


@pytest.fixture(scope="module")
def open_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("open"), settings_with(EVERY)) as found:
        yield found


def cors(answer: Answer) -> set[str]:
    """The fields of an answer that are for browsers."""
    return {name for name in answer.headers if name.startswith("Access-Control-")}


def preflight(site: Site, path: str, origin: str, method: str = "POST") -> Answer:
    """What a browser asks before a page's request; it sends no key."""
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return site.ask("OPTIONS", path, headers={**asked, "Access-Control-Request-Headers": "content-type,x-api-key"})


def test_without_origins_no_page_may_ask(shared: Site) -> None:
    for answer in (shared.ask("GET", "/v1/tiers", headers={"Origin": APP}), preflight(shared, "/v1/tiers", APP)):
        assert cors(answer) == set()
        assert "Vary" not in answer.headers
    assert_problem(shared.post("free", PICTURE, {**ASYNC, "Origin": APP}), 403, "wrong_origin")


@pytest.mark.parametrize("origin", [APP, OTHER])
def test_a_page_of_a_listed_site_sends_pictures_reads_and_cancels(listing: Site, origin: str) -> None:
    page = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    accepted = listing.post("free", PICTURE, {**ASYNC, **page})
    assert accepted.status == 202
    path = accepted.headers["Location"]
    read, canceled = (listing.ask(method, path, headers=page) for method in ("GET", "DELETE"))
    assert (read.json["status"], canceled.json["status"]) == ("queued", "canceled")
    for answer in (accepted, read, canceled):
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers
    exposed = set(accepted.headers["Access-Control-Expose-Headers"].split(", "))
    assert exposed >= {"Location", "Retry-After", "X-Request-Id", "Preference-Applied", "Server-Timing"}
    assert exposed >= {"RateLimit", "RateLimit-Policy"}


def test_a_page_reads_errors(listing: Site) -> None:
    page = {"Origin": APP}
    for answer, status in (
        (listing.ask("GET", "/v1/tiers/gold", headers=page), 404),
        (listing.ask("GET", "/nothing", headers=page), 404),
        (listing.ask("PUT", "/v1/tiers", headers=page), 405),
        (listing.ask("PURR", "/v1/tiers", headers=page), 405),
        (listing.ask("GET", "/v1/tiers", headers={**page, "X-API-Key": "tsk_wrong_key"}), 401),
        (listing.ask("GET", "/v1/predictions?wait=tsk_a", headers=page), 400),
        (listing.post("free", b"no picture", page), 415),
        (listing.post("free", b"", {**page, "Content-Length": str(1 << 40)}), 413),
    ):
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", STRANGERS)
def test_a_page_of_another_site_may_not(listing: Site, origin: str) -> None:
    read = listing.ask("GET", "/v1/tiers", headers={"Origin": origin})
    assert (read.status, cors(read), read.headers["Vary"]) == (200, set(), "Origin")
    asked = preflight(listing, "/img-classification/free", origin)
    assert (asked.status, cors(asked), asked.headers["Vary"]) == (204, set(), "Origin")
    assert_problem(listing.post("free", PICTURE, {**ASYNC, "Origin": origin}), 403, "wrong_origin")


def test_who_names_no_origin_is_told_that_answers_differ_by_it(listing: Site) -> None:
    answer = listing.get("/v1/tiers")
    assert (cors(answer), answer.headers["Vary"]) == (set(), "Origin")
    assert_problem(listing.post("free", PICTURE, {**ASYNC, "Sec-Fetch-Site": "cross-site"}), 403, "wrong_origin")


@pytest.mark.parametrize("route", PUBLIC)
def test_a_preflight_names_what_a_page_may_send(listing: Site, open_site: Site, route: str) -> None:
    for site, allowed in ((listing, APP), (open_site, "*")):
        answer = preflight(site, path_of(route), APP)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == allowed
        assert named(answer.headers["Access-Control-Allow-Methods"]) == named(answer.headers["Allow"])
        taken = {name.lower() for name in answer.headers["Access-Control-Allow-Headers"].split(", ")}
        assert taken >= {"authorization", "x-api-key", "content-type", "prefer", "idempotency-key", "cancel-after"}
        assert taken >= {"x-request-id", "last-event-id"}
        assert int(answer.headers["Access-Control-Max-Age"]) == 600
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_with_an_asterisk_every_page_may_ask(open_site: Site) -> None:
    for origin in ("https://evil.example", "null", APP):
        accepted = open_site.post("free", PICTURE, {**ASYNC, "Origin": origin, "Sec-Fetch-Site": "cross-site"})
        assert (accepted.status, accepted.headers["Access-Control-Allow-Origin"]) == (202, "*")
        assert "Vary" not in accepted.headers
    assert cors(open_site.get("/v1/tiers")) == set()


def test_no_page_may_ask_the_internal_port_nor_another_host(listing: Site) -> None:
    for method in ("GET", "OPTIONS"):
        answer = listing.internal.ask(
            method, "/v1/keys", headers={"Origin": APP, "Access-Control-Request-Method": "GET"}
        )
        assert (cors(answer), "Vary" in answer.headers) == (set(), False)
    assert_problem(listing.internal.ask("POST", "/v1/keys", b"{}", {"Origin": APP}), 403, "wrong_origin")
    assert_problem(listing.refusal(listing.job(), {"Origin": APP}), 403, "wrong_origin")
    assert_problem(listing.ask("GET", "/v1/tiers", headers={"Origin": APP, "Host": "evil.example"}), 421, "wrong_host")


def test_changed_origins_take_effect_at_once(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("server: {}\n")
    live = Live(Files((file,)), None, judge, patience=30)
    with running(tmp_path / "site", live) as site:
        assert cors(preflight(site, "/v1/tiers", APP)) == set()
        file.write_text(f"server: {{cors: {{origins: ['{APP}']}}}}\n")
        assert live.refresh(lambda _: None), live.problem
        assert preflight(site, "/v1/tiers", APP).headers["Access-Control-Allow-Origin"] == APP
        assert site.post("free", PICTURE, {**ASYNC, "Origin": APP}).status == 202
        file.write_text("server: {cors: {origins: []}}\n")
        assert live.refresh(lambda _: None), live.problem
        assert_problem(site.post("free", PICTURE, {**ASYNC, "Origin": APP}), 403, "wrong_origin")


near = st.builds(
    lambda origin, at, text: origin[:at] + text + origin[at + len(text) :],
    st.sampled_from([APP, OTHER]),
    st.integers(0, 30),
    st.text(st.characters(codec="latin-1"), max_size=3),
)


@given(st.one_of(near, st.text(st.characters(codec="latin-1"), max_size=40)))
def test_only_a_listed_origin_is_ever_named(sent: str) -> None:
    headers = HTTPHeaders()
    headers["Origin"] = sent
    told = origins.fields(headers, settings_with(LISTED).current.settings)
    assert (told.get("Access-Control-Allow-Origin") in (APP, OTHER)) == (sent in (APP, OTHER))
    assert told["Vary"] == "Origin"
