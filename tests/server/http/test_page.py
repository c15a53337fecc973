"""The page's files as they are served: which there are, what a browser is told of them, and what they may do."""

from __future__ import annotations

import re

import pytest

from server.http.public.page import FOLDER
from server.shipped import PICTURE
from tests.server.http.http_site import Site, assert_problem

POLICY = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'", "blob:", "data:"],
    "connect-src": ["'self'"],
    "form-action": ["'none'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}


def test_the_documents_are_at_their_routes(shared: Site) -> None:
    for path, name in (("/", "index.html"), ("/watch", "watch.html")):
        answer = shared.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert answer.body == (FOLDER / name).read_bytes()


def test_every_file_of_a_document_and_of_its_modules_is_served(shared: Site) -> None:
    wanted, seen = ["/", "/watch"], set()
    while wanted:
        path = wanted.pop()
        if path in seen or path == "/docs":
            continue
        seen.add(path)
        answer = shared.get(path)
        assert answer.status == 200, path
        text = "" if path.endswith(".jpg") else answer.body.decode()
        wanted += re.findall(r"""(?:href|src)="(/[^"#]*)\"""", text)
        wanted += [f"/page/{name}" for name in re.findall(r"""(?:from|import) "\./([^"]+)\"""", text)]
        wanted += re.findall(r"""["'](/page/[^"']+)["']""", text)
    # And none is served that nothing needs.
    assert {f"/page/{file.name}" for file in FOLDER.iterdir() if file.suffix != ".html"} <= seen


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("style.css", "text/css; charset=utf-8"),
        ("shell.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
        ("cat.jpg", "image/jpeg"),
    ],
)
def test_a_file_has_its_type(shared: Site, name: str, media_type: str) -> None:
    answer = shared.get(f"/page/{name}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, media_type)
    assert answer.body == (PICTURE if name == "cat.jpg" else FOLDER / name).read_bytes()


@pytest.mark.parametrize("path", ["/", "/watch", "/page/shell.js", "/page/none.js"])
def test_a_document_may_do_nothing_but_ask_this_server(shared: Site, path: str) -> None:
    headers = shared.get(path).headers
    rules = [rule.split() for rule in headers["Content-Security-Policy"].split(";")]
    assert {rule[0]: rule[1:] for rule in rules} == POLICY
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_browser_asks_whether_its_copy_is_still_the_same(shared: Site) -> None:
    first = shared.get("/page/style.css")
    assert first.headers["Cache-Control"] == "no-cache"
    etag = first.headers["Etag"]
    again = shared.ask("GET", "/page/style.css", None, {"If-None-Match": etag})
    assert (again.status, again.body, again.headers["Etag"]) == (304, b"", etag)
    assert shared.ask("GET", "/page/style.css", None, {"If-None-Match": '"other"'}).body == first.body
    assert shared.get("/page/shell.js").headers["Etag"] != etag
    assert not etag.startswith("W/")


@pytest.mark.parametrize(
    "name",
    [
        "none.js",
        "index.html",
        "watch.html",
        "..%2froutes.py",
        "%2e%2e%2f__init__.py",
        "style.css%00",
        "LICENSES.md",
        "%ff",
    ],
)
def test_nothing_else_is_served(shared: Site, name: str) -> None:
    assert_problem(shared.get(f"/page/{name}"), 404, "no_such_route")


def test_a_key_is_not_looked_at(shared: Site) -> None:
    """A browser that was given a wrong key can still show the page, on which it can be changed."""
    assert shared.ask("GET", "/", None, {"X-API-Key": "tsk_wrong_key"}).status == 200


def test_a_page_cannot_be_changed(shared: Site) -> None:
    assert_problem(shared.ask("POST", "/", b""), 405, "method_not_allowed")


def test_there_is_no_page_on_the_internal_port(shared: Site) -> None:
    assert_problem(shared.internal.get("/"), 404, "no_such_route")
