"""What a client calls its pictures comes back with their results, through the lobby and through the table.

How it could break: a name goes to another picture's result, is lost in one of the two ways or at a restart, or is
shown to somebody else.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.http.http_site import ANSWER_SECONDS, LABELS, PICTURE, Site, completion

PARTS = [("b", "zwei.jpg"), ("a", "größe.jpg"), ("b", None)]
NAMED = [{"field": "b", "file": "zwei.jpg"}, {"field": "a", "file": "größe.jpg"}, {"field": "b"}]
KIND = {"Content-Type": "multipart/form-data; boundary=XX"}


def form() -> bytes:
    body = b""
    for field, file in PARTS:
        named = f'form-data; name="{field}"' + (f'; filename="{file}"' if file else "")
        body += f"--XX\r\nContent-Disposition: {named}\r\n\r\n".encode() + PICTURE + b"\r\n"
    return body + b"--XX--"


def told(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: one[key] for key in ("field", "file") if key in one} for one in results]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "names"}])
def test_each_result_of_a_form_has_its_names(site: Site, headers: dict[str, str]) -> None:
    token = site.job()
    channel = site.worker(token)
    answer = site.callers.submit(site.post, "free", form(), KIND | headers)
    channel.grant(1)
    (one,) = channel.lease()
    results = [LABELS[0], {"error": {"code": "image_broken", "detail": "it is broken"}}, LABELS[0]]
    channel.say({"completions": [completion(one, results)]})
    ended = answer.result(ANSWER_SECONDS)
    assert (ended.status, [one["index"] for one in ended.json["results"]]) == (200, [0, 1, 2])
    assert told(ended.json["results"]) == NAMED
    assert [one["status"] for one in ended.json["results"]] == ["succeeded", "failed", "succeeded"]
    assert site.get(ended.json["urls"]["get"]).json["results"] == ended.json["results"]


def test_what_waits_in_the_table_keeps_its_names(site: Site) -> None:
    prediction = site.submit(headers=KIND, body=form()).json
    token = site.job()
    (one,) = site.lease(token)
    assert site.hand_in([completion(one, 3 * LABELS)], token) == ["accepted"]
    assert told(site.get(prediction["urls"]["get"]).json["results"]) == NAMED


def test_a_picture_as_it_is_has_no_names_and_one_of_a_data_url_may_have_a_file(site: Site) -> None:
    body = b'{"inputs": ["/9j/", "data:image/jpeg;name=my%20cat.jpg;base64,/9j/"]}'
    ids = [site.submit().json["id"], site.submit(headers={"Content-Type": "application/json"}, body=body).json["id"]]
    token = site.job()
    for one, results in zip(site.lease(token, 2), (LABELS, 2 * LABELS), strict=True):
        assert site.hand_in([completion(one, results)], token) == ["accepted"]
    found = [told(site.get(f"/v1/predictions/{one}").json["results"]) for one in ids]
    assert found == [[{}], [{}, {"file": "my cat.jpg"}]]
