"""The description of the interface as it is served, and the page that shows it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from server.http.public.docs import FOLDER
from server.openapi.document import document
from server.settings.live import Live
from server.settings.sources import Files
from tests.server.http.http_site import ANSWER_SECONDS, Site, running
from tests.waiting import eventually


def test_the_interface_is_served_with_the_version_and_the_tiers(shared: Site) -> None:
    answer = shared.get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == document(version("tierserve"), ["free", "premium"])


def test_the_tiers_of_the_interface_are_those_that_there_are_now(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("tiers: {premium: null}\n")
    live = Live(Files((values,)))
    with running(tmp_path, live) as site:
        before = site.get("/openapi.json")
        assert before.json["components"]["schemas"]["TierName"]["enum"] == ["free"]
        values.write_text("{}\n")
        eventually(lambda: live.refresh(lambda _: None), ANSWER_SECONDS, "the new values are in force")
        after = site.ask("GET", "/openapi.json", None, {"If-None-Match": before.headers["Etag"]})
        assert after.status == 200
        assert after.json["components"]["schemas"]["TierName"]["enum"] == ["free", "premium"]


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/docs.js"])
def test_what_a_client_has_is_not_sent_again(shared: Site, path: str) -> None:
    first = shared.get(path)
    again = shared.ask("GET", path, None, {"If-None-Match": first.headers["Etag"]})
    assert (again.status, again.body, again.headers["Etag"]) == (304, b"", first.headers["Etag"])
    assert shared.ask("GET", path, None, {"If-None-Match": '"another"'}).body == first.body


def test_the_page_may_run_no_script_but_those_of_the_server(shared: Site) -> None:
    for path in ("/docs", *(f"/docs/{file.name}" for file in FOLDER.iterdir() if file.suffix in (".js", ".css"))):
        answer = shared.get(path)
        rules = dict(one.strip().split(" ", 1) for one in answer.headers["Content-Security-Policy"].split(";"))
        assert (answer.status, rules["script-src"], rules["default-src"]) == (200, "'self'", "'none'"), path


@pytest.mark.parametrize("name", ["viewer.json", "LICENSE", "..", "%2e%2e%2froutes.py", "x.js"])
def test_nothing_else_of_the_folder_is_served(shared: Site, name: str) -> None:
    answer = shared.get(f"/docs/{name}")
    assert (answer.status, answer.json["code"]) == (404, "no_such_route")
