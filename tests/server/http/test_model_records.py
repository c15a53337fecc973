"""Records that operators push: what is none is refused, and the answer says where it is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.http.http_site import (
    Site,
    assert_problem,
)
from tests.server.http.store_site import MIB, connected, pusher, references
from tests.server.pushed_models import MEASURED, digest_as_built, record, variant


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


def test_a_variant_that_the_builder_could_not_run_is_taken(site: Site) -> None:
    unknown = MEASURED | {"ms": None, "images_per_second": None, "memory_mb": None}
    told = pusher(site).push("flowers", b"1", variants=[variant(b"1", "timm", "fp32", measured=unknown)])
    assert [one["runtime"] for one in told["variants"]] == ["timm"]
    assert pusher(site).ask("GET", "models/flowers").json["record"]["variants"][0]["measured"] == unknown
