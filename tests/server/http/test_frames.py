"""Pictures on their way to workers: large ones are streamed, and all together are bounded."""

from __future__ import annotations

import http.client

import pytest

from server.blobs import pack_header
from server.http.internal import worker
from server.http.services import FRAME_BYTES
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site
from tests.waiting import eventually

LARGE = PICTURE + bytes(worker.LEASE_BYTES)


def submit_large(site: Site) -> str:
    answer = site.submit(body=LARGE)
    assert answer.status == 202
    return answer.headers["Location"]


def test_a_prediction_of_many_bytes_is_sent_alone_and_in_pieces(site: Site) -> None:
    submit_large(site)
    site.submit()
    (one,) = site.lease(site.job(), most=2)
    assert one["blob"] == pack_header([len(LARGE)]) + LARGE
    assert site.call(site.services.frames.used) == 0


def test_a_large_prediction_whose_picture_is_gone_fails(site: Site) -> None:
    url = submit_large(site)
    site.blobs.delete([url.rpartition("/")[2]])
    assert site.lease(site.job()) == []
    assert site.get(url).json["error"]["code"] == "blob_missing"


def test_a_large_prediction_that_cannot_be_read_to_its_end_waits_again(site: Site) -> None:
    url, token = submit_large(site), site.job()
    site.blobs.breaks_after = 2
    with pytest.raises((http.client.HTTPException, OSError)):
        site.lease(token)
    site.idle()
    answer = eventually(
        lambda: site.get(url).json, ANSWER_SECONDS, "it waits again", lambda found: found["status"] == "queued"
    )
    assert answer["attempts"] == 0


def test_while_many_pictures_are_on_their_way_one_prediction_goes_alone(site: Site) -> None:
    """The memory of frames is bounded, and a worker gets something nevertheless."""
    for _ in range(3):
        site.submit()
    frames, token = site.services.frames, site.job()
    held = site.call(lambda: frames.hold("free", "another", {"free": FRAME_BYTES, "premium": 0}))
    site.call(lambda: held.take(FRAME_BYTES))
    assert len(site.lease(token, most=8)) == 1
    depths = site.queue.depths().result(ANSWER_SECONDS)
    assert (depths["free"].queued, depths["free"].leased) == (2, 1)
    site.call(held.release)
    assert len(site.lease(token, most=8)) == 2
    assert site.call(frames.used) == 0
