"""The operators' routes for models: a push is whole or not at all, is checked, and says what is wrong with it."""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from server.blobs import BlobError, BlobsFull
from server.queue import ConnectionLost, OutcomeUnknown, Served, Serving
from tests.running import Answer
from tests.server.http.http_site import ADMIN_TOKEN, ANSWER_SECONDS, Site, assert_problem, running, settings_with
from tests.server.pushed_models import Pusher, digest_as_built, record, sha256, variant
from tests.waiting import eventually

MIB = 1024 * 1024
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


def pusher(site: Site, token: str = ADMIN_TOKEN) -> Pusher:
    return Pusher(site.internal, token)


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Site]:
    """A site that takes 3 MiB of models, and 2 MiB of one."""
    live = settings_with(f"server.models.bytes={3 * MIB}", f"server.models.modelBytes={2 * MIB}")
    with running(tmp_path, live) as found:
        yield found


def stored(site: Site) -> list[str]:
    """The digests of all files that lie in the store; there is nothing else in it."""
    return sorted(path.name for path in site.files._root.iterdir())


def references(site: Site) -> list[str]:
    return [model["reference"] for model in pusher(site).ask("GET", "models").json["models"]]


def connected(site: Site, method: str, path: str, headers: dict[str, Any]) -> http.client.HTTPConnection:
    """A connection on which the head of a request was sent, and nothing of its body."""
    connection = http.client.HTTPConnection("127.0.0.1", site.internal.port, timeout=ANSWER_SECONDS)
    connection.putrequest(method, f"/v1/{path}")
    for name, value in (pusher(site).headers | headers).items():
        connection.putheader(name, str(value))
    connection.endheaders()
    return connection


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


def test_a_push_that_is_cut_in_the_middle_leaves_nothing(site: Site) -> None:
    data = random.Random(1).randbytes(5 * MIB)
    for sent in (0, 10, 3 * MIB, 5 * MIB - 1):
        connection = connected(site, "PUT", f"model-files/{sha256(data)}", {"Content-Length": len(data)})
        connection.send(data[:sent])
        connection.close()
        site.idle()
    eventually(lambda: stored(site), ANSWER_SECONDS, "nothing is left", lambda found: not found)
    assert pusher(site).ask("HEAD", f"model-files/{sha256(data)}").status == 404
    assert_problem(pusher(site).ask("POST", "models", {"record": record("flowers", data)}), 409, "missing_file")
    assert references(site) == []
    pusher(site).push("flowers", data)


def test_a_push_lacks_files_until_all_are_there(site: Site) -> None:
    operator, made = pusher(site), record("flowers", b"1", b"2")
    operator.send(b"1")
    answer = operator.ask("POST", "models", {"record": made})
    assert_problem(answer, 409, "missing_file")
    assert answer.json["missing"] == [sha256(b"2")]
    assert references(site) == []
    operator.send(b"2")
    assert operator.ask("POST", "models", {"record": made}).status == 201


def test_two_pushes_at_once_are_one_model(site: Site) -> None:
    data, operator = random.Random(2).randbytes(4 * MIB), pusher(site)
    both = [connected(site, "PUT", f"model-files/{sha256(data)}", {"Content-Length": len(data)}) for _ in range(2)]
    for part in (data[: 2 * MIB], data[2 * MIB :]):
        for connection in both:
            connection.send(part)
    assert [connection.getresponse().status in (200, 201) for connection in both] == [True, True]
    for connection in both:
        connection.close()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: operator.ask("POST", "models", {"record": record("a", data)}), range(2)))
    assert sorted(answer.status for answer in answers) == [200, 201]
    assert (len(references(site)), stored(site)) == (1, [sha256(data)])


def test_more_files_at_once_than_may_come_are_told_to_wait(site: Site) -> None:
    data = bytes(MIB)
    head = {"Content-Length": len(data)}
    slow = [connected(site, "PUT", f"model-files/{sha256(data)}", head) for _ in range(4)]
    eventually(site.services.pushes.locked, ANSWER_SECONDS, "all places are taken")
    answer = pusher(site).ask("PUT", f"model-files/{sha256(b'x')}", b"x")
    assert_problem(answer, 503, "busy")
    assert "Retry-After" in answer.headers
    for connection in slow:
        connection.close()
    eventually(site.services.pushes.locked, ANSWER_SECONDS, "the places are free", lambda locked: not locked)
    pusher(site).send(b"x")


@pytest.mark.parametrize("sent", [b"wrong", b"x" * (2 * MIB)])
def test_a_file_with_another_digest_is_not_kept(site: Site, sent: bytes) -> None:
    answer = pusher(site).ask("PUT", f"model-files/{sha256(b'right')}", sent)
    assert_problem(answer, 422, "wrong_digest")
    assert sha256(sent) in answer.json["detail"]
    assert stored(site) == []


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2Fdata%2Fqueue.db", "x", "A" * 64, "a" * 63 + "%0A", "a" * 65])
def test_no_name_of_a_file_leads_anywhere(shared: Site, name: str) -> None:
    for method in ("PUT", "GET", "HEAD"):
        answer = pusher(shared).ask(method, f"model-files/{name}", b"x" if method == "PUT" else None)
        assert answer.status == (422 if method == "PUT" else 404), answer
    assert stored(shared) == []


def test_a_file_needs_its_length(site: Site) -> None:
    connection = connected(site, "PUT", f"model-files/{sha256(b'x')}", {"Transfer-Encoding": "chunked"})
    connection.send(b"1\r\nx\r\n0\r\n\r\n")
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (411, "no_length")
    connection.close()
    assert_problem(pusher(site).ask("PUT", f"model-files/{sha256(b'')}", b""), 411, "no_length")
    assert stored(site) == []


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


def make_old(site: Site, data: bytes) -> None:
    path = site.files._root / sha256(data)
    then = path.stat().st_mtime - 3600
    os.utime(path, (then, then))


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


class Sick:
    """Stands for a disk that does not take what comes."""

    def __init__(self, error: BlobError) -> None:
        self._error = error

    def __call__(self, *_: Any) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BlobsFull("no room", "disk_full", free_bytes=5, reserve_bytes=7), 507, "store_full"),
        (BlobsFull("the bucket is full", "bucket_full"), 507, "store_full"),
        (BlobError("the disk is sick"), 503, "storage_unavailable"),
    ],
)
@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_a_store_that_takes_nothing_says_so_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: BlobError, status: int, code: str, size: int
) -> None:
    """Also in the middle of a long file, of which the rest is not written."""
    monkeypatch.setattr(site.files, "put", Sick(error))
    data = bytes(size)
    connection = connected(site, "PUT", f"model-files/{sha256(data)}", {"Content-Length": size})
    connection.send(data[:5])
    answer = connection.getresponse() if size > 10 else None
    if answer is None:
        connection.send(data[5:])
        answer = connection.getresponse()
    told = json.loads(answer.read())
    assert (answer.status, told["code"]) == (status, code)
    if error.args[0] == "no room":
        assert (told["free_bytes"], told["reserve_bytes"]) == (5, 7)
    connection.close()


def bad(**changes: Any) -> dict[str, Any]:
    return record("flowers", b"1") | changes


TWO_OF_ONE_NAME = [variant(b"1", file="a"), variant(b"2", "timm", "fp32", file="a")]
GARBAGE = [
    ({}, ""),
    ({"record": []}, "/record"),
    ({"record": bad(), "tags": "best"}, "/tags"),
    ({"record": bad(), "tags": ["0123abcd"]}, "/tags/0"),
    ({"record": bad(), "tags": ["../x"]}, "/tags/0"),
    ({"record": bad(), "colour": "red"}, ""),
    ({"record": bad(name="../../etc")}, "/record/name"),
    ({"record": bad(name="a@b")}, "/record/name"),
    ({"record": bad(name="")}, "/record/name"),
    ({"record": bad(name="a\n")}, "/record/name"),
    ({"record": bad(name="a\x00")}, "/record/name"),
    ({"record": bad(name="a" * 61)}, "/record/name"),
    ({"record": bad(version="12345678\n")}, "/record/version"),
    ({"record": bad(version="00000000")}, "/record/version"),
    ({"record": bad(labels=[])}, "/record/labels"),
    ({"record": bad(labels=["cat", "cat"])}, "/record/labels"),
    ({"record": bad(labels=["cat", ""])}, "/record/labels/1"),
    ({"record": bad(labels=["cat", "d\x00g"])}, "/record/labels/1"),
    ({"record": bad(labels=["cat", "\ud800"])}, "/record/labels/1"),
    ({"record": bad(labels=["cat", 5])}, "/record/labels/1"),
    ({"record": bad(variants=[])}, "/record/variants"),
    ({"record": bad(variants=[variant(b"1", file="../x")])}, "/record/variants/0/file"),
    ({"record": bad(variants=[variant(b"1", file="/etc/passwd")])}, "/record/variants/0/file"),
    ({"record": bad(variants=[variant(b"1", file="model.json")])}, "/record/variants/0/file"),
    ({"record": bad(variants=[variant(b"1", file="..")])}, "/record/variants/0/file"),
    ({"record": bad(variants=[variant(b"1", bytes=0)])}, "/record/variants/0/bytes"),
    ({"record": bad(variants=[variant(b"1", bytes=True)])}, "/record/variants/0/bytes"),
    ({"record": bad(variants=[variant(b"1", sha256="x")])}, "/record/variants/0/sha256"),
    ({"record": bad(variants=[variant(b"1", runtime="tflite")])}, "/record/variants/0/runtime"),
    ({"record": bad(variants=[variant(b"1"), variant(b"2")])}, "/record/variants/1"),
    (
        {"record": bad(variants=[variant(b"1", file="a"), variant(b"2", "timm", "fp32", file="a")])},
        "/record/variants/1/file",
    ),
    ({"record": bad(preprocessing=bad()["preprocessing"] | {"mean": [0.5]})}, "/record/preprocessing"),
    ({"record": bad(preprocessing=bad()["preprocessing"] | {"crop_pct": 0})}, "/record/preprocessing/crop_pct"),
    ({"record": bad(preprocessing=bad()["preprocessing"] | {"more": 0})}, "/record/preprocessing"),
    ({"record": {name: value for name, value in bad().items() if name != "judged"}}, "/record"),
]


@pytest.mark.parametrize(("body", "pointer"), GARBAGE)
def test_a_record_that_is_none_is_refused(shared: Site, body: dict[str, Any], pointer: str) -> None:
    answer = pusher(shared).ask("POST", "models", body)
    assert_problem(answer, 422, "bad_model")
    assert answer.json["pointer"] == pointer, answer.json["detail"]
    assert references(shared) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"record": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_record_is_refused(shared: Site, body: bytes) -> None:
    assert_problem(pusher(shared).ask("POST", "models", body), 400, "bad_json")


def test_a_record_of_too_many_bytes_is_refused(shared: Site) -> None:
    connection = connected(shared, "POST", "models", {"Content-Length": 64 * MIB})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (413, "too_many_bytes")
    connection.close()


def test_numbers_without_end_are_refused(shared: Site) -> None:
    text = json.dumps({"record": bad(build={"seconds": 5})}).replace('"seconds": 5', '"seconds": 1e999')
    answer = pusher(shared).ask("POST", "models", text.encode())
    assert_problem(answer, 422, "bad_model")


@pytest.mark.parametrize("changes", [{"labels": ["cat", "cow"]}, {"architecture": "other"}, {"arguments": {"a": 1}}])
def test_a_record_that_was_changed_after_its_build_is_refused(shared: Site, changes: dict[str, Any]) -> None:
    answer = pusher(shared).ask("POST", "models", {"record": bad(**changes)})
    assert_problem(answer, 422, "wrong_digest")
    assert answer.json["digest"] == digest_as_built(bad(**changes))


def test_a_record_with_another_size_than_its_file_is_refused(site: Site) -> None:
    pusher(site).send(b"12345")
    made = record("flowers", b"12345", variants=[variant(b"12345", bytes=4)])
    assert_problem(pusher(site).ask("POST", "models", {"record": made}), 422, "bad_model")
    assert references(site) == []


def test_a_model_of_very_many_classes_is_taken(site: Site) -> None:
    labels = [f"class {number} — 種類" for number in range(10_000)]
    told = pusher(site).push("many", b"1", labels=labels)
    assert told["classes"] == 10_000
    assert pusher(site).ask("GET", "models/many").json["record"]["labels"] == labels


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


def test_a_reader_that_takes_nothing_holds_up_nobody(site: Site) -> None:
    data = random.Random(3).randbytes(8 * MIB)
    pusher(site).push("flowers", data)
    slow = socket.create_connection(("127.0.0.1", site.internal.port), timeout=ANSWER_SECONDS)
    head = f"GET /v1/model-files/{sha256(data)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
    slow.sendall(head.encode())

    def read(_: int) -> Answer:
        return pusher(site).ask("GET", f"model-files/{sha256(data)}")

    with ThreadPoolExecutor(8) as pool:
        assert all(answer.body == data for answer in pool.map(read, range(16)))
    slow.close()
    site.idle()


def test_more_readers_at_once_than_may_be_are_told_to_wait(site: Site) -> None:
    data = bytes(32 * MIB)
    pusher(site).push("flowers", data)
    head = {"Accept": "*/*"}
    slow = [connected(site, "GET", f"model-files/{sha256(data)}", head) for _ in range(32)]
    eventually(site.services.sends.locked, ANSWER_SECONDS, "all places are taken")
    assert_problem(pusher(site).ask("GET", f"model-files/{sha256(data)}"), 503, "busy")
    for connection in slow:
        connection.close()
    eventually(site.services.sends.locked, ANSWER_SECONDS, "the places are free", lambda locked: not locked)
    assert pusher(site).ask("GET", f"model-files/{sha256(data)}").body == data


def test_a_file_that_cannot_be_read_to_its_end_is_broken_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(3 * MIB)
    pusher(site).push("flowers", data)
    whole = site.files.pieces

    def pieces(name: str) -> Iterator[bytes]:
        yield next(iter(whole(name)))
        raise BlobError("the disk is sick")

    monkeypatch.setattr(site.files, "pieces", pieces)
    connection = connected(site, "GET", f"model-files/{sha256(data)}", {})
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        connection.getresponse().read()
    connection.close()


def test_a_slow_body_is_ended(site: Site) -> None:
    connection = connected(site, "PUT", f"model-files/{sha256(bytes(MIB))}", {"Content-Length": MIB})
    connection.send(b"slow")
    eventually(lambda: site.services.slow_bodies.coming, ANSWER_SECONDS, "the body has begun")
    site.pace_clock.advance(60)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (408, "too_slow")
    connection.close()
    eventually(lambda: stored(site), ANSWER_SECONDS, "nothing is left", lambda found: not found)
