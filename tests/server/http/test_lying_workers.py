"""Workers whose results cannot be those of their predictions."""

from __future__ import annotations

from typing import Any

import pytest

from server.blobs import pack_header
from tests.server.http.http_site import LABELS, PICTURE, Site, completion

BLOB = pack_header([len(PICTURE)]) + PICTURE


@pytest.mark.parametrize("results", [2 * LABELS, [{"labels": 6 * LABELS[0]["labels"]}]])
def test_what_cannot_be_the_result_is_told_counted_and_tried_again(
    site: Site, results: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    token = site.job()
    url = site.submit().headers["Location"]
    (one,) = site.lease(token)
    assert site.hand_in([completion(one, results)], token) == ["invalid"]
    assert f"Job job handed in what cannot be the results of {one['id']}" in caplog.text
    assert 'tierserve_invalid_results_total{tier="free"} 1.0' in site.internal.get("/metrics").body.decode()
    assert site.get(url).json["status"] == "queued"
    (again,) = site.lease(token)
    assert again["blob"] == BLOB, "its pictures are still there"
    assert site.complete(again, token) == ["accepted"]


def test_a_worker_that_lies_to_the_last_attempt_fails_the_prediction(site: Site) -> None:
    token = site.job()
    url = site.submit().headers["Location"]
    for _ in range(3):
        (one,) = site.lease(token)
        assert site.hand_in([completion(one, 2 * LABELS)], token) == ["invalid"]
    assert site.get(url).json["error"]["code"] == "attempts_exhausted"
