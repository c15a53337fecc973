"""The operators' routes for models: a push is whole or not at all, is checked, and says what is wrong with it."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.queue import (
    ConnectionLost,
    OutcomeUnknown,
    QueueError,
    Served,
    Serving,
    TooManyModels,
    TooManyTags,
    VersionTaken,
)
from tests.server.http.http_site import (
    ADMIN_TOKEN,
    ANSWER_SECONDS,
    Site,
    assert_problem,
    running,
    settings_with,
)
from tests.server.http.store_site import MIB, connected, make_old, pusher, references, stored
from tests.server.pushed_models import record, sha256

ROUTES = [
    ("PUT", f"model-files/{sha256(b'x')}"),
    ("HEAD", f"model-files/{sha256(b'x')}"),
    ("GET", f"model-files/{sha256(b'x')}"),
    ("POST", "models"),
    ("GET", "models"),
    ("GET", "models/flowers"),
    ("DELETE", "models/flowers@01234567"),
    ("PUT", "models/flowers/tags/best"),
]


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Site]:
    """A site that takes 3 MiB of models, and 2 MiB of one."""
    live = settings_with(f"server.models.bytes={3 * MIB}", f"server.models.modelBytes={2 * MIB}")
    with running(tmp_path, live) as found:
        yield found


def test_a_pushed_model_comes_back_as_it_was(site: Site) -> None:
    files = random.Random(5).randbytes(5 * MIB + 1), b"other"
    operator = pusher(site)
    told = operator.push("flowers", *files, tags=["best", "v2"])
    made = record("flowers", *files)
    described = {
        "reference": f"flowers@{made['version']}",
        "name": "flowers",
        "version": made["version"],
        "digest": made["digest"],
        "bytes": sum(map(len, files)),
        "pushed_at": told["pushed_at"],
        "tags": ["best", "v2"],
        "latest": True,
        "used_by": [],
        "classes": 2,
        "variants": [
            {"runtime": "onnx", "name": "int8", "bytes": len(files[0])},
            {"runtime": "onnx", "name": "fp32", "bytes": len(files[1])},
        ],
    }
    assert told == described
    for reference in ("flowers", f"flowers@{made['version']}", "flowers@best", "flowers@v2"):
        assert operator.ask("GET", f"models/{reference}").json == {**described, "record": made}
    listed = operator.ask("GET", "models").json
    assert listed == {"models": [described], "used_bytes": told["bytes"], "limit_bytes": 4 * 1024**3}
    for data in files:
        answer = operator.ask("GET", f"model-files/{sha256(data)}")
        assert (answer.status, answer.body) == (200, data)
        assert operator.ask("HEAD", f"model-files/{sha256(data)}").headers["Content-Length"] == str(len(data))


def test_what_is_pushed_again_is_there_once_and_the_latest(site: Site) -> None:
    operator = pusher(site)
    first, second = operator.push("flowers", b"1"), operator.push("flowers", b"2")
    assert operator.ask("GET", "models/flowers").json["version"] == second["version"]
    assert operator.ask("PUT", f"model-files/{sha256(b'1')}", b"1").status == 200
    answer = operator.ask("POST", "models", {"record": record("flowers", b"1")})
    assert (answer.status, answer.json["latest"]) == (200, True)
    assert operator.ask("GET", "models/flowers").json["version"] == first["version"]
    assert len(references(site)) == len(stored(site)) == 2


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("token", [f"{ADMIN_TOKEN}x", "", "tsk_0123456789ab_0123456789"])
def test_only_operators_may_ask(shared: Site, method: str, path: str, token: str) -> None:
    body = {"PUT": b"x", "POST": {"record": record("flowers", b"x")}}.get(method)
    answer = pusher(shared, token).ask(method, path, body)
    assert answer.status == 401
    assert answer.headers["Www-Authenticate"] == "Bearer"
    assert (references(shared), stored(shared)) == ([], [])


def test_workers_and_clients_may_not_ask(site: Site) -> None:
    pusher(site).push("flowers", b"x")
    for token in (site.job(), site.key()):
        assert_problem(pusher(site, token).ask("GET", f"model-files/{sha256(b'x')}"), 401, "bad_admin_token")
    assert site.ask("GET", f"/v1/model-files/{sha256(b'x')}", None, pusher(site).headers).status in (401, 404)


def test_a_push_lacks_files_until_all_are_there(site: Site) -> None:
    operator, made = pusher(site), record("flowers", b"1", b"2")
    operator.send(b"1")
    answer = operator.ask("POST", "models", {"record": made})
    assert_problem(answer, 409, "missing_file")
    assert answer.json["missing"] == [sha256(b"2")]
    assert references(site) == []
    operator.send(b"2")
    assert operator.ask("POST", "models", {"record": made}).status == 201


def test_a_model_that_is_too_large_is_refused_before_it_comes(narrow: Site) -> None:
    connection = connected(narrow, "PUT", f"model-files/{sha256(b'x')}", {"Content-Length": 2 * MIB + 1})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    assert (answer.status, told["code"], told["limit_bytes"]) == (413, "model_too_large", 2 * MIB)
    connection.close()
    files = bytes(MIB), bytes(MIB + 1)
    pusher(narrow).send(*files)
    answer_of_push = pusher(narrow).ask("POST", "models", {"record": record("flowers", *files)})
    assert_problem(answer_of_push, 413, "model_too_large")
    assert references(narrow) == []


def test_a_full_store_says_so_and_takes_more_when_models_are_removed(narrow: Site) -> None:
    operator = pusher(narrow)
    first, second = b"1" * (2 * MIB), b"2" * (2 * MIB)
    told = operator.push("a", first)
    answer = operator.ask("PUT", f"model-files/{sha256(second)}", second)
    assert_problem(answer, 409, "store_full")
    assert (answer.json["used_bytes"], answer.json["limit_bytes"]) == (2 * MIB, 3 * MIB)
    operator.push("a", first)  # what is there takes no more room
    narrow.files._root.joinpath(sha256(first)).touch()
    assert operator.ask("DELETE", f"models/{told['reference']}").status == 200
    make_old(narrow, first)  # nothing counts on it any more
    operator.push("b", second)


def test_no_push_counts_on_an_old_file_that_no_model_has(site: Site) -> None:
    operator = pusher(site)
    told = operator.push("flowers", b"1")
    make_old(site, b"1")
    assert operator.ask("HEAD", f"model-files/{sha256(b'1')}").status == 200
    assert operator.ask("POST", "models", {"record": record("other", b"1")}).status == 201, "a model has it"
    for reference in references(site):
        operator.ask("DELETE", f"models/{reference}")
    assert operator.ask("HEAD", f"model-files/{sha256(b'1')}").status == 404
    assert_problem(operator.ask("POST", "models", {"record": record("flowers", b"1")}), 409, "missing_file")
    assert operator.push("flowers", b"1")["reference"] == told["reference"]


def test_a_tag_moves(site: Site) -> None:
    operator = pusher(site)
    first, second = operator.push("flowers", b"1", tags=["best"]), operator.push("flowers", b"2")
    told = operator.ask("PUT", f"models/{second['reference']}/tags/best").json
    assert (told["reference"], told["tags"]) == (second["reference"], ["best"])
    assert operator.ask("GET", "models/flowers@best").json["version"] == second["version"]
    assert operator.ask("GET", f"models/{first['reference']}").json["tags"] == []
    for tag in ("01234567", "a%40b", "%20", "a" * 61, "%2e%2e"):
        assert_problem(operator.ask("PUT", f"models/flowers/tags/{tag}"), 422, "bad_model")


@pytest.mark.parametrize(
    "reference", ["tulips", "flowers@nightly", "flowers@00000000", "..", "%00", "flowers@", "@", "%FF"]
)
def test_a_name_of_nothing_is_told(site: Site, reference: str) -> None:
    told = pusher(site).push("flowers", b"1")
    for method, path in (("GET", ""), ("DELETE", ""), ("PUT", "/tags/best")):
        answer = pusher(site).ask(method, f"models/{reference}{path}")
        assert_problem(answer, 404, "no_such_model")
        if reference.startswith("flowers"):
            assert told["reference"] in answer.json["detail"]
    assert references(site) == [told["reference"]]


def test_a_model_is_removed_by_its_version_only(site: Site) -> None:
    operator = pusher(site)
    told = operator.push("flowers", b"1", tags=["best"])
    for reference in ("flowers", "flowers@best"):
        assert_problem(operator.ask("DELETE", f"models/{reference}"), 404, "no_such_model")
    removed = operator.ask("DELETE", f"models/{told['reference']}")
    assert (removed.status, removed.json["reference"]) == (200, told["reference"])
    assert references(site) == []
    assert_problem(operator.ask("GET", "models/flowers@best"), 404, "no_such_model")
    assert_problem(operator.ask("DELETE", f"models/{told['reference']}"), 404, "no_such_model")


def served(reference: str) -> Served:
    return Served(reference, "0" * 64, "onnx", "int8", 0.0)


@pytest.mark.parametrize("lane", ["main", "canary"])
def test_a_model_that_a_tier_serves_is_not_removed(site: Site, lane: str) -> None:
    operator = pusher(site)
    told, other = operator.push("flowers", b"1"), operator.push("flowers", b"2")
    one = served(told["reference"])
    site.queue.serve("premium", Serving(main=one) if lane == "main" else Serving(canary=one)).result(ANSWER_SECONDS)
    answer = operator.ask("DELETE", f"models/{told['reference']}")
    assert_problem(answer, 409, "model_in_use")
    assert answer.json["tiers"] == ["premium"]
    assert operator.ask("GET", f"models/{told['reference']}").json["used_by"] == ["premium"]
    assert operator.ask("DELETE", f"models/{other['reference']}").status == 200
    site.queue.serve("premium", Serving()).result(ANSWER_SECONDS)
    assert operator.ask("DELETE", f"models/{told['reference']}").status == 200


@pytest.mark.parametrize("name", ["flowers", "flowers@best", "canary"])
def test_a_model_that_the_settings_name_is_not_removed(tmp_path: Path, name: str) -> None:
    sets = [f"tiers.free.model.name={name}"]
    if name == "canary":
        sets = ["tiers.free.model.canary.name=flowers@best", "tiers.free.model.canary.percent=5"]
    with running(tmp_path, settings_with(*sets)) as site:
        told = pusher(site).push("flowers", b"1", tags=["best"])
        assert told["used_by"] == ["free"]
        assert_problem(pusher(site).ask("DELETE", f"models/{told['reference']}"), 409, "model_in_use")


def test_each_change_is_in_the_audit_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    operator = pusher(site)
    with caplog.at_level(logging.INFO, "server.audit"):
        reference = operator.push("flowers", b"1", tags=["a", "b"])["reference"]
        operator.ask("PUT", f"models/{reference}/tags/best")
        operator.ask("DELETE", f"models/{reference}")
        operator.ask("DELETE", f"models/{reference}")
    assert [one.getMessage() for one in caplog.records if one.name == "server.audit"] == [
        f"model pushed tags=a,b: reference={reference} by=127.0.0.1",
        f"model tagged tags=best: reference={reference} by=127.0.0.1",
        f"model removed: reference={reference} by=127.0.0.1",
    ]


def test_a_change_of_which_nobody_knows_the_outcome_is_in_the_audit_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    pusher(site).send(b"1")
    site.database.write_failure = OutcomeUnknown("it cannot be said whether it was kept")
    with caplog.at_level(logging.INFO, "server.audit"):
        answer = pusher(site).ask("POST", "models", {"record": record("flowers", b"1")})
    assert_problem(answer, 503, "outcome_unknown")
    assert "model pushed, unless its commit failed: reference=flowers@" in caplog.text
    site.database.write_failure = None


def test_while_the_database_is_away_nothing_is_pushed(site: Site) -> None:
    pusher(site).send(b"1")
    site.database.failure = ConnectionLost("the database is away")
    for method, path, body in (
        ("POST", "models", {"record": record("flowers", b"1")}),
        ("PUT", f"model-files/{sha256(b'2')}", b"2"),
        ("GET", "models", None),
    ):
        assert_problem(pusher(site).ask(method, path, body), 503, "storage_unavailable")
    site.database.failure = None
    assert (references(site), stored(site)) == ([], [sha256(b"1")])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TooManyModels(1000), "too_many_models"),
        (TooManyTags("flowers", 100), "too_many_tags"),
        (VersionTaken("flowers@01234567"), "version_taken"),
    ],
)
def test_limits_of_the_database_are_told(site: Site, error: QueueError, code: str) -> None:
    pusher(site).send(b"1")
    site.database.write_failure = error
    answer = pusher(site).ask("POST", "models", {"record": record("flowers", b"1")})
    site.database.write_failure = None
    assert_problem(answer, 409, code)
    assert answer.json.get("limit_count") == getattr(error, "limit", None)


def test_tags_of_a_name_are_bounded(site: Site) -> None:
    operator = pusher(site)
    for first in range(0, 100, 20):
        operator.push("flowers", b"1", tags=[f"t{number}" for number in range(first, first + 20)])
    answer = operator.ask("PUT", "models/flowers/tags/more")
    assert_problem(answer, 409, "too_many_tags")
    assert answer.json["limit_count"] == 100
    assert operator.ask("PUT", "models/flowers/tags/t5").status == 200
